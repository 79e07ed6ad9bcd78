"""Check that the libraries of a format are installed."""

from importlib.util import find_spec

from ..errors import ImpastoError
from ..options import ExportFormat

NEEDED: dict[str, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "onnxruntime", "openvino"),
    "torch": (),
    "web": ("onnx", "onnxscript", "onnxruntime"),
}
"""Format -> the libraries that write and check its files."""


def check_extra(format: ExportFormat) -> None:  # noqa: A002 - the option's name
    """Raise ImpastoError if a library that the format needs is not installed."""
    missing = [name for name in NEEDED[format] if find_spec(name) is None]
    if missing:
        extra = "onnx" if format == "web" else format
        raise ImpastoError(f'--format {format} needs {", ".join(missing)}: pip install "impasto[{extra}]"')
