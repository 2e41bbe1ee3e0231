"""The dependency rule of docs/architecture.md, checked by reading import statements."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT

# package or file of src -> what of src it may import, besides itself; entry points may import everything
ALLOWED = {
    "errors": set(),
    "files": {"errors"},
    "csv_text": set(),
    "output_paths": {"errors"},
    "environment": set(),
    "output_record": {"environment", "errors", "files"},
    "ops": set(),
    "torchvision_guard": set(),
    "layer_sync": set(),
    "machine": set(),
    "schema": {"errors"},
    "norms": {"errors", "schema"},
    "file_schema": {"errors"},
    "run_files": {"errors", "file_schema"},
    "wandb_logger": {"errors", "files", "run_files"},
    "viz": {"errors", "files"},
    "models": {"errors", "ops", "schema"},
    "losses": {"errors", "schema"},
    "metrics": {"csv_text", "errors", "run_files"},
    "optim": {"errors", "schema"},
    "data": {"csv_text", "errors", "file_schema", "files", "run_files", "schema"},
    "inference": {"errors", "ops", "schema"},
    "exporting": {"errors", "inference", "run_files"},
    "costs": set(),
    "speed": {"errors", "exporting", "inference"},
    "crf_search": {"errors", "files", "inference", "metrics"},
    "checkpoints": {"errors", "files"},
    "html": {"errors", "file_schema", "files", "run_files"},
    "run_folder": {"errors", "files"},
    "signals": {"run_folder"},
    "callbacks": {"errors", "files", "html", "metrics", "run_files", "schema", "signals", "viz"},
    "module": {"checkpoints", "data", "errors", "inference", "losses", "metrics"},
    "protocol": {"data", "environment", "files", "metrics"},
    "compare": {"errors", "file_schema", "metrics", "protocol", "run_files"},
    "refine_search": {"crf_search", "data", "errors", "inference", "module"},
    "report": {"callbacks", "data", "environment", "errors", "files", "html", "metrics"},
    "messages": {"environment", "errors", "files"},
    "overrides": set(),
    "option_hints": {"errors", "overrides"},
    "instantiate": {"errors"},
    "buildable": {"data", "inference", "instantiate", "models"},
    "targets": {"buildable", "errors", "instantiate", "schema"},
    "options": {"errors", "schema", "targets"},
    "option_help": {"errors", "schema", "targets"},
    "cli": {"errors", "messages", "option_help", "option_hints", "options", "overrides"},
    "image_files": {"errors", "files"},
    "sweeps": {"errors", "file_schema", "files", "overrides", "run_files", "schema"},
    "prediction": {"csv_text", "data", "errors", "files", "image_files", "output_paths", "output_record", "viz"},
    "label_folder": {"data", "errors", "files", "image_files", "output_record", "viz"},
    "saved_config": {"errors"},
    "resumed_config": {"errors", "saved_config"},
    "build": {
        "buildable",
        "callbacks",
        "checkpoints",
        "data",
        "errors",
        "instantiate",
        "layer_sync",
        "losses",
        "module",
        "norms",
        "optim",
        "saved_config",
    },
    "trial_costs": {
        "build",
        "costs",
        "environment",
        "errors",
        "file_schema",
        "files",
        "module",
        "run_files",
        "speed",
        "sweeps",
    },
    "restore": {
        "build",
        "buildable",
        "checkpoints",
        "data",
        "errors",
        "files",
        "inference",
        "instantiate",
        "losses",
        "module",
        "resumed_config",
        "saved_config",
    },
    "start": {"build", "checkpoints", "errors", "module", "restore", "saved_config"},
    "applied": {"inference", "overrides", "restore"},
    "budget": {"errors"},
    "proposal": {"overrides"},
    "rehearsal": {"data", "errors", "module", "norms"},
    "training_speed": {"budget", "build", "callbacks", "data"},
}
KNOW_HYDRA = {
    "applied",
    "build",
    "cli",
    "instantiate",
    "messages",
    "option_help",
    "option_hints",
    "options",
    "overrides",
    "protocol",
    "report",
    "restore",
    "resumed_config",
    "run_folder",
    "saved_config",
    "start",
    "training_speed",
    "trial_costs",
}
ONLY_IN = {
    "wandb": {"wandb_logger"},
    "optuna": {"sweeps"},
    "submitit": {"sweeps"},
    "ray": {"sweeps"},
    "matplotlib": {"callbacks", "sweeps"},
    "albumentations": {"data"},
    "rasterio": {"prediction"},
    "onnx": {"exporting", "export"},
    "onnxruntime": {"exporting"},
}
ENTRY_POINTS = {
    "autolabel",
    "benchmark",
    "convert",
    "dashboard",
    "doctor",
    "evaluate",
    "export",
    "predict",
    "shards",
    "submit",
    "sweep",
    "train",
}


def _imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names if node.module == "src"}
    return names


def _files() -> list[Path]:
    return sorted(path for path in (ROOT / "src").rglob("*.py") if path != ROOT / "src/__init__.py")


def _part(path: Path) -> str:
    return path.relative_to(ROOT / "src").with_suffix("").parts[0]


def test_every_part_of_src_has_a_rule() -> None:
    assert {_part(path) for path in _files()} == set(ALLOWED) | ENTRY_POINTS


@pytest.mark.parametrize("path", _files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    part = _part(path)
    imported = _imports(path)
    own = {name.split(".")[1] for name in imported if name.startswith("src.")}
    if part not in ENTRY_POINTS:
        assert own <= ALLOWED[part] | {part}
        if part not in KNOW_HYDRA:
            assert not {name.split(".")[0] for name in imported} & {"hydra", "omegaconf"}
    for library, homes in ONLY_IN.items():
        if part not in homes:
            assert not any(name.split(".")[0] == library for name in imported)
    assert not any(name.split(".")[0] in ("tests", "scripts") for name in imported)
