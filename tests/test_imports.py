"""The direction of imports in docs/architecture.md, checked by reading import statements."""

from __future__ import annotations

import ast
import re
from importlib.util import resolve_name
from pathlib import Path

import pytest

from tests.conftest import ROOT

LAUNCHERS = {"train", "evaluate", "predict", "autolabel", "submit", "export", "benchmark", "sweep", "convert"}
LAUNCHERS |= {"dashboard", "shards", "doctor", "push"}
# From top to bottom: a package imports what stands in lower lines, and nothing of its own line.
LAYERS = [
    LAUNCHERS | {"__main__"},
    {"runs"},
    {"segmenter"},
    {"commands"},
    {"profiling"},
    {"sweeps"},
    {"cli"},
    {"exporting"},
    {"build"},
    {"callbacks", "evaluation"},
    {"training", "prediction"},
    {"reports"},
    {"data", "loggers", "checkpoints"},
    {"inference"},
    {"models", "losses", "metrics", "optim"},
    {"ops", "schema"},
    {"runtime"},
    {"hub"},
    {"files"},
    {"errors"},
]
KNOW_HYDRA = {"cli", "commands", "build", "segmenter", "runs"}
ONLY_IN = {
    "wandb": {"loggers"},
    "optuna": {"sweeps"},
    "submitit": {"sweeps"},
    "ray": {"sweeps"},
    "matplotlib": {"reports", "sweeps"},
    "albumentations": {"data"},
    "huggingface_hub": {"hub"},
    "rasterio": {"prediction"},
    "onnx": {"exporting", "commands"},
    "onnxruntime": {"exporting"},
}
HEIGHT = {package: -line for line, packages in enumerate(LAYERS) for package in packages}


def _imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    package = ".".join(path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), package)
            names |= {module} if module != "src" else {f"src.{alias.name}" for alias in node.names}
    return names


def _files() -> list[Path]:
    return sorted(path for path in (ROOT / "src").rglob("*.py") if path != ROOT / "src/__init__.py")


def _package(path: Path) -> str:
    return path.relative_to(ROOT / "src").with_suffix("").parts[0]


def test_every_package_has_its_place() -> None:
    assert {_package(path) for path in _files()} == set(HEIGHT)


@pytest.mark.parametrize("path", _files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    package, imported = _package(path), _imports(path)
    for other in {name.split(".")[1] for name in imported if name.startswith("src.")} - {package}:
        assert HEIGHT[other] < HEIGHT[package]
    assert not any(line.lstrip().startswith(("from src", "import src")) for line in path.read_text().splitlines())
    libraries = {name.split(".")[0] for name in imported}
    if package not in KNOW_HYDRA:
        assert not libraries & {"hydra", "omegaconf"}
    assert not {library for library, homes in ONLY_IN.items() if package not in homes} & libraries
    assert not libraries & {"tests", "scripts"}


@pytest.mark.parametrize("name", sorted(LAUNCHERS))
def test_launchers_settle_the_command_line_and_call(name: str) -> None:
    text = (ROOT / f"src/{name}.py").read_text()
    code = text.splitlines()[-4:]
    assert code == ["from .cli.command import command", "", 'if __name__ == "__main__":', f'    command("{name}")']
    assert [type(node) for node in ast.parse(text).body] == [ast.Expr, ast.ImportFrom, ast.If]


@pytest.mark.parametrize("folder", ["src", "tests", "scripts"])
def test_no_launcher_is_imported(folder: str) -> None:
    """It would be an attribute of the package from then on: ``semseg.train`` is a function."""
    for path in (ROOT / folder).rglob("*.py"):
        assert not {f"src.{name}" for name in LAUNCHERS} & _imports(path), path
        assert not re.search(r'import_module\(f"src\.\{', path.read_text()), path
