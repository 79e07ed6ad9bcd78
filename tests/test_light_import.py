"""Importing the package, `--help`, `--version` and loading a network load little, so that they respond at once."""

import json
import subprocess
import sys

import pytest

import impasto

HEAVY = {
    "av",
    "cv2",
    "fastapi",
    "fsspec",
    "gradio",
    "lightning",
    "lightning_fabric",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "openvino",
    "pyvips",
    "ray",
    "scipy",
    "skimage",
    "torch",
    "torchvision",
    "uvicorn",
}
NOT_EVEN = {"PIL", "numpy", "rich", "tyro"}

CALL = """
from impasto.cli import main
try:
    code = main({arguments!r})
except SystemExit as end:
    code = end.code
assert not code, code
"""
MODULE = """
import runpy
sys.argv[1:] = {arguments!r}
try:
    runpy.run_module("impasto", run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end.code
"""


def run_and_list(code: str) -> tuple[str, set[str]]:
    """Return what the code prints in a fresh process, and the top-level modules loaded at its end."""
    code = f"import json, sys\n{code}\nprint()\nprint(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    output, _, loaded = done.stdout.rstrip("\n").rpartition("\n")
    return output, set(json.loads(loaded))


def test_import() -> None:
    _, loaded = run_and_list("import impasto; impasto.ImpastoError; dir(impasto)")
    assert not loaded & (HEAVY | NOT_EVEN)


@pytest.mark.parametrize("way", [CALL, MODULE], ids=["main", "python -m"])
def test_version(way: str) -> None:
    output, loaded = run_and_list(way.format(arguments=["--version"]))
    assert impasto.__version__ in output
    assert not loaded & (HEAVY | NOT_EVEN)


@pytest.mark.parametrize("way", [CALL, MODULE], ids=["main", "python -m"])
@pytest.mark.parametrize(
    "verb",
    [[], ["stylize"], ["video"], ["batch"], ["export"], ["evaluate"], ["serve"]],
    ids=lambda verb: "".join(verb) or "impasto",
)
def test_help(way: str, verb: list[str]) -> None:
    output, loaded = run_and_list(way.format(arguments=[*verb, "--help"]))
    assert (verb or ["stylize"])[0] in output
    assert not loaded & HEAVY


def test_a_network_is_loaded_without_pytorchs_compiler() -> None:
    """The compiler comes with sympy, and takes longer to load than a small painting to paint."""
    _, loaded = run_and_list("import impasto; impasto.load_stylizer('udnie', quality='instant')")
    assert "torch" in loaded
    assert "sympy" not in loaded
