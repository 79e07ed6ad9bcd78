"""Check that the extra `web` is installed, and configure its libraries not to contact other machines."""

import os
import warnings
from importlib.util import find_spec

from ...errors import ImpastoError

NEEDED = ("gradio", "fastapi", "uvicorn", "multipart")


def prepare() -> None:
    """Check the extra and configure its libraries. Call this before importing anything else of the studio.

    Raises
    ------
    ImpastoError
        If the extra is not installed.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ImpastoError(f'the studio needs {", ".join(missing)}: pip install "impasto[web]"')
    os.environ.update(
        GRADIO_ANALYTICS_ENABLED="False",
        GRADIO_MCP_SERVER="False",
        GRADIO_SSR_MODE="False",
        HF_HUB_OFFLINE="1",
        HF_HUB_DISABLE_TELEMETRY="1",
    )
    warnings.filterwarnings("ignore", module=r"gradio\.")  # deprecations in Gradio's own use of its libraries
