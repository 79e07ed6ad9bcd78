"""The extra `web`: whether it is installed, and its libraries told to keep to this machine before they are loaded."""

import os
import warnings
from importlib.util import find_spec

from ...errors import ImpastoError

NEEDED = ("gradio", "fastapi", "uvicorn", "multipart")


def prepare() -> None:
    """To be called before anything else of the studio is imported.

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
    warnings.filterwarnings("ignore", module=r"gradio\.")  # its own dealings with the libraries that it builds on
