"""Tests of the structure of the code: which module may import which, how long it is, and that none is empty."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import impasto

ROOT = Path(impasto.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# A module imports from its own line and from lines above it. The package itself names things of all lines, and loads
# them on first use; a test below holds it to that.
LAYERS = (
    ("errors", "ranges", "files", "options", "container"),
    ("device", "plots"),
    ("image",),
    ("models",),
    ("style",),
    ("stylizers",),
    ("train",),
    ("video", "export"),
    ("tools", "batch"),
    ("evaluate",),
    ("verbs",),
    ("cli",),
    ("__main__",),
)
RANKS = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}


def module_name(path: Path) -> str:
    """Return `impasto.style.losses` for its file, and `impasto.style` for that folder's `__init__`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("impasto", *(parts[:-1] if parts[-1] == "__init__" else parts)))


MODULES = {module_name(path): path for path in FILES}


def imported_modules(tree: ast.AST, name: str, is_package: bool) -> Iterator[tuple[str, int]]:
    """Return the impasto modules that a module imports anywhere, each with its line."""
    package = name if is_package else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((a.name, node.lineno) for a in node.names if a.name.split(".")[0] == "impasto")
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            if base.split(".")[0] == "impasto":
                for alias in node.names:
                    whole = f"{base}.{alias.name}"
                    yield (whole if whole in MODULES else base), node.lineno


def layer_breaches(source: str, name: str, is_package: bool) -> list[str]:
    """Return a line for each import of a module from a row below the importing one."""
    part = name.split(".")[1]
    breaches = []
    for target, line in imported_modules(ast.parse(source), name, is_package):
        if target == "impasto":  # `from .. import __version__`, the only name there that loads nothing
            continue
        if RANKS[target.split(".")[1]] > RANKS[part]:
            breaches.append(f"{name}:{line} imports {target}, which stands below it")
    return breaches


def test_every_part_has_a_place() -> None:
    parts = {name.split(".")[1] for name in MODULES if name != "impasto"}
    assert parts <= set(RANKS), f"give {sorted(parts - set(RANKS))} a place in LAYERS and in CONTRIBUTING.md"


def test_imports_point_upwards() -> None:
    breaches = [
        breach
        for name, path in MODULES.items()
        if name != "impasto"
        for breach in layer_breaches(path.read_text(encoding="utf-8"), name, path.stem == "__init__")
    ]
    assert not breaches, "\n".join(breaches)


@pytest.mark.parametrize(
    ("source", "breaches"),
    [
        ("from ..errors import StyleError", 0),
        ("from .vgg import VGG", 0),
        ("import torch\nfrom .. import __version__", 0),
        ("from ..style.losses import gram_loss", 1),
        ("from .. import stylizers", 1),
        ("import impasto.cli", 1),
        ("def late():\n    from impasto.train import loop", 1),
    ],
)
def test_breaches_are_seen(source: str, breaches: int) -> None:
    assert len(layer_breaches(source, "impasto.models.weights", is_package=False)) == breaches


def test_package_loads_only_its_errors() -> None:
    code = "import sys, impasto; print(*(m for m in sys.modules if m.startswith('impasto.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["impasto.errors"]


def test_no_folder_is_empty() -> None:
    folders = {path.parent for path in FILES}
    for folder in folders:
        assert (folder / "__init__.py").is_file(), f"{folder.relative_to(ROOT)} has no __init__.py"
        assert len(list(folder.glob("*.py"))) > 1, f"{folder.relative_to(ROOT)} holds no module"


@pytest.mark.parametrize("name", MODULES)
def test_module(name: str) -> None:
    source = MODULES[name].read_text(encoding="utf-8")
    tree = ast.parse(source)
    assert ast.get_docstring(tree), "a module opens with a docstring that says what it is for"
    if name != "impasto.cli":
        calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
        prints = [c.lineno for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]
        assert not prints, f"library code prints, line {prints}"


@pytest.mark.parametrize("name", impasto.__all__)
def test_public_name_resolves(name: str) -> None:
    assert getattr(impasto, name) is not None
    assert name in dir(impasto)


def test_public_names_are_sorted_and_single() -> None:
    assert impasto.__all__ == sorted(set(impasto.__all__))


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'paint'"):
        impasto.paint  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]
