"""The weights of several graphs in one file, each stored once, and in half precision where that loses nothing.

The network's file has its weights in float16. So they are the same numbers in the page as in Impasto, which computes in
float32 with them, and so does the page.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

LEAST_BYTES = 1024
"""Smaller weights stay in the graph's own file."""


def write_models(models: Mapping[str, "ModelProto"], folder: Path, weights: str) -> None:
    """Write models as `NAME.onnx` into a folder, and their weights into one file beside them.

    Parameters
    ----------
    models : mapping of str to ModelProto
        Name -> model. They are changed.
    weights : str
        The name of the file of the weights.
    """
    import onnx

    places: dict[bytes, int] = {}
    with open(folder / weights, "wb") as file:
        for name, model in models.items():
            casts: list[NodeProto] = []
            for tensor in model.graph.initializer:
                values = onnx.numpy_helper.to_array(tensor)
                if values.nbytes < LEAST_BYTES:
                    continue
                if values.dtype == np.float32 and exact_in_half(values):
                    values, half = values.astype(np.float16), tensor.name + "_half"
                    casts.append(onnx.helper.make_node("Cast", [half], [tensor.name], to=onnx.TensorProto.FLOAT))
                    tensor.name, tensor.data_type = half, onnx.TensorProto.FLOAT16
                data = values.tobytes()
                if data not in places:
                    places[data] = file.tell()
                    file.write(data)
                refer(tensor, weights, places[data], len(data))
            nodes = [*casts, *model.graph.node]
            del model.graph.node[:]
            model.graph.node.extend(nodes)
            (folder / f"{name}.onnx").write_bytes(model.SerializeToString())


def exact_in_half(values: np.ndarray) -> bool:
    """Return whether float32 numbers are float16 numbers, too."""
    with np.errstate(over="ignore"):
        return bool((values.astype(np.float16).astype(np.float32) == values).all())


def refer(tensor: "TensorProto", location: str, offset: int, length: int) -> None:
    """Let a tensor refer to a part of another file, instead of holding its numbers."""
    import onnx

    tensor.ClearField("raw_data")
    tensor.ClearField("float_data")
    del tensor.external_data[:]
    for key, value in {"location": location, "offset": offset, "length": length}.items():
        tensor.external_data.add(key=key, value=str(value))
    tensor.data_location = onnx.TensorProto.EXTERNAL
