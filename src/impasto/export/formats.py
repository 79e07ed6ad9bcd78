"""Writing the graph as a file of each format."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.fx.config
from torch import Tensor
from torch.export import Dim, ExportedProgram

from ..errors import ImpastoError
from ..image.source import one_line
from .graph import PaintingGraph

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

T = TypeVar("T")

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
"""Format -> suffix of its file. OpenVINO's weights are in a second file, .bin."""
OUTPUT = "painting"
"""The name of the output."""
METADATA = "impasto.json"
"""The name of the metadata in a file of PyTorch."""
WITHOUT_TRACES = "do_not_emit_stack_traces"
"""The setting of `torch.fx` for it."""
EXAMPLE = (2, 70, 54)
"""Batch, height and width of the pictures with which the graph is traced; any would do."""


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the warnings of the exporters, which are about their own code.

    A PyTorch that can leave out the stack traces of its nodes does so: they take a tenth of the time, and are dropped.
    """
    before, config = logging.root.manager.disable, torch.fx.config
    recorded = getattr(config, WITHOUT_TRACES, None)
    logging.disable(logging.WARNING)
    if recorded is not None:
        setattr(config, WITHOUT_TRACES, True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        if recorded is not None:
            setattr(config, WITHOUT_TRACES, recorded)


def trace(graph: PaintingGraph) -> ExportedProgram:
    """Return the program of a graph, for any batch, height and width."""
    count, height, width = EXAMPLE
    batch = Dim("batch", min=1)
    sides = {"height": Dim("height", min=2), "width": Dim("width", min=2)}
    if graph.uint8:
        image = torch.zeros(count, height, width, 3, dtype=torch.uint8)
        axes = {0: batch, 1: sides["height"], 2: sides["width"]}
    else:
        image = torch.zeros(count, 3, height, width)
        axes = {0: batch, 2: sides["height"], 3: sides["width"]}
    examples = {"image": image, "strength": torch.ones(count)}
    shapes: dict[str, Any] = {"image": axes, "strength": {0: batch}}
    if graph.affine is None:
        examples |= {"affine": torch.ones(count, graph.net.layout.size), "colours": torch.ones(count, 3, 4)}
        shapes |= {"affine": {0: batch}, "colours": {0: batch}}
    return traced(graph, examples, shapes)


def traced(module: torch.nn.Module, examples: Mapping[str, Tensor], shapes: Mapping[str, Any]) -> ExportedProgram:
    """Return the program of a module.

    Parameters
    ----------
    examples : mapping of str to Tensor
        An input of each name, in the order of the module's `forward`.
    shapes : mapping of str to dict
        The sizes of each input that vary: axis -> `Dim`.
    """
    with quiet(), torch.no_grad():
        program = _supported(torch.export.export, module.eval(), tuple(examples.values()), dynamic_shapes=dict(shapes))
    for part in program.graph_module.modules():
        if isinstance(part, torch.fx.GraphModule):
            for node in part.graph.nodes:
                node.meta.pop("stack_trace", None)  # has paths of this machine
    return program


def _supported(function: Callable[..., T], *inputs: Any, **options: Any) -> T:
    """Call one of PyTorch's exporters. Raises ImpastoError if it cannot export the network."""
    try:
        return function(*inputs, **options)
    except Exception as error:
        raise ImpastoError(
            f"PyTorch {torch.__version__} cannot export the network ({one_line(error)[:200]}); install the version "
            "that constraints.txt names"
        ) from error


def write_torch(program: ExportedProgram, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a program for `torch.export.load`, with the metadata as an extra file."""
    with quiet():
        torch.export.save(program, path, extra_files={METADATA: json.dumps(dict(metadata))})


def write_onnx(program: ExportedProgram, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a program as ONNX, with the metadata as the model's properties."""
    import onnx

    model = onnx_model(program, [OUTPUT], metadata)
    name_axes(model)
    onnx.save(model, path)


def onnx_model(program: ExportedProgram, outputs: Sequence[str], metadata: Mapping[str, str]) -> "ModelProto":
    """Return a program as an ONNX model, with these names of its outputs, and the metadata as its properties."""
    import onnx

    with quiet():
        exported = _supported(torch.onnx.export, program, dynamo=True, verbose=False, output_names=list(outputs))
    assert exported is not None
    model = exported.model_proto
    strip(model.graph)
    model.producer_name, model.producer_version = "impasto", metadata["version"]
    onnx.helper.set_model_props(model, dict(metadata))
    return model


def name_axes(model: "ModelProto") -> None:
    """Give the sizes of inputs and outputs their names: batch, height, width. The exporter numbers them."""
    inputs = model.graph.input
    found = [d.dim_param for d in inputs[0].type.tensor_type.shape.dim if d.dim_param]
    names = dict(zip(found, ("batch", "height", "width"), strict=True))
    for value in (*inputs, *model.graph.output):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = names[size.dim_param]


def strip(graph: "GraphProto") -> None:
    """Remove what runtimes do not read: each node's origin, with paths of this machine, and the shapes in between."""
    del graph.value_info[:], graph.metadata_props[:]
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                strip(attribute.g)


def write_openvino(source: Path, path: Path, metadata: Mapping[str, str], compressed: bool) -> None:
    """Write an ONNX file for OpenVINO: `path`, .xml, and the weights beside it, .bin.

    Parameters
    ----------
    compressed : bool
        Whether to store float32 weights as float16.
    """
    import openvino

    model = openvino.Core().read_model(source)
    for key, value in metadata.items():
        model.set_rt_info(value, ["impasto", key])
    openvino.save_model(model, path, compress_to_fp16=compressed)
