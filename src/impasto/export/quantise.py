"""Convolutions in 8 bits, with one scale per channel, calibrated on photographs."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from .formats import quiet


def quantise(source: Path, target: Path, inputs: Iterable[Mapping[str, NDArray[Any]]]) -> None:
    """Write an ONNX file whose convolutions compute in 8 bits.

    The first and the last convolution stay as they are: they see the photograph and make the painting, and their errors
    show. Weights have 7 bits, because processors without instructions for 8-bit products overflow with more.

    Parameters
    ----------
    source, target : Path
        The files to read and to write.
    inputs : iterable of mapping
        The inputs with which the ranges of the features are measured.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Inputs(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(inputs)

        def get_next(self) -> dict[str, NDArray[Any]] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
            found = next(self.left, None)
            return None if found is None else dict(found)

    model = onnx.load(source)
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    with quiet():
        quantize_static(
            source,
            target,
            Inputs(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=[convolutions[0], convolutions[-1]],
        )
    quantised = onnx.load(target)
    onnx.helper.set_model_props(quantised, {p.key: p.value for p in model.metadata_props})
    quantised.producer_name, quantised.producer_version = model.producer_name, model.producer_version
    onnx.save(quantised, target)
