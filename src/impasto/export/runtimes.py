"""Running an exported file on the CPU as other programs do, in float32 where the file leaves a choice."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..options import ExportFormat
from .formats import OUTPUT, quiet

Run = Callable[[Mapping[str, NDArray[Any]]], NDArray[Any]]
"""Takes the inputs by name and returns the painting."""


def load(path: Path, format: ExportFormat) -> Run:  # noqa: A002 - the option's name
    """Return a function that paints with an exported file."""
    return {"onnx": load_onnx, "openvino": load_openvino, "torch": load_torch}[format](path)


def load_onnx(path: Path) -> Run:
    """Load a file into ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda inputs: np.asarray(session.run([OUTPUT], dict(inputs))[0])


def load_openvino(path: Path) -> Run:
    """Load a file into OpenVINO. On some CPUs it would compute in bfloat16 if float32 were not asked for."""
    import openvino

    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    model = openvino.Core().compile_model(path, "CPU", hints)
    return lambda inputs: np.array(model(dict(inputs))[OUTPUT])


def load_torch(path: Path) -> Run:
    """Load a file into PyTorch."""
    with quiet():
        module = torch.export.load(path).module()

    @torch.no_grad()
    def run(inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        return module(*(torch.from_numpy(v) for v in inputs.values())).numpy()

    return run
