"""What tests share: tiny files on disk, tiny configs, and one thread per test process."""

from __future__ import annotations

import copy
import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig

import src  # noqa: F401, before any library may import torchvision
from src.build import from_config
from src.checkpoints.io import METADATA_KEY
from src.cli.checkpoint_defaults import own_store
from src.cli.command import command
from src.data.label_space import LabelSpace

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("SEMSEG_SHARED", ROOT.parent / "shared"))


@contextmanager
def files_of_at_most(limit: int) -> Iterator[None]:
    """Writes beyond ``limit`` bytes of a file fail, as they do on a full disk."""
    resource = pytest.importorskip("resource", reason="Windows limits no sizes of files")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def composed(name: str, *overrides: str) -> DictConfig:
    """What ``conf/<name>.yaml`` and these overrides compose."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose(name, overrides=[*overrides])


def call(
    name: str,
    *overrides: str,
    task: Callable[[DictConfig], Any] | None = None,
    prepare: Callable[[list[str]], tuple[str, list[str]]] | None = None,
) -> None:
    """Runs ``python -m src.<name> <overrides>`` in this process; it raises SystemExit where the command fails.

    Hydra composes the same command line three times, for the check, for its mode and for the run; here it does once.

    Args:
        name: of the command.
        overrides: its command line.
        task: what takes the place of the command's work.
        prepare: what takes the place of its look at the command line.
    """
    done: dict[tuple[str | None, ...], DictConfig] = {}
    composing, mode = ConfigLoaderImpl._load_configuration_impl, f"hydra.mode={RunMode.RUN.name}"

    def once(self: ConfigLoaderImpl, config_name: str | None, overrides: list[str], **how: Any) -> DictConfig:
        key = (config_name, *(item for item in overrides if item != mode))
        if key not in done:
            done[key] = composing(self, config_name=config_name, overrides=overrides, **how)
        cfg = copy.deepcopy(done[key])
        if mode in overrides and mode not in cfg.hydra.overrides.hydra:
            cfg.hydra.mode = RunMode.RUN
            cfg.hydra.overrides.hydra.append(mode)
        return cfg

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *overrides])
        patch.delenv("HYDRA_FULL_ERROR", raising=False)
        patch.setattr(ConfigLoaderImpl, "_load_configuration_impl", once)
        try:
            command(name, task, prepare=prepare)
        except SystemExit as ending:
            if ending.code:
                raise


NET = ["model=fcn_torchvision", "model.net.backbone.name=test_resnet"]
SMALL = [*NET, "data.length={train: 2, val: 2, test: 2}"]


def save_untrained(path: Path, *overrides: str, space: LabelSpace | None = None) -> Path:
    """Writes a checkpoint of an untrained net that is sure of some pixels and unsure of others.

    Args:
        path: the file.
        overrides: what it is to have been trained with, such as ``SMALL``.
        space: its classes; by default those of the data.
    """
    torch.manual_seed(3)
    cfg = composed("train", *overrides, "run_dir=runs/x")
    module = from_config.build_module(cfg, space or from_config.build_datamodule(cfg).label_space)
    for name, weight in module.net.named_parameters():
        if name.endswith("classifier.weight"):
            weight.data *= 40
    metadata = {**module.metadata, "label_space": module.label_space.to_dict()}
    torch.save({"state_dict": module.state_dict(), METADATA_KEY: metadata}, path)
    return path


@pytest.fixture(autouse=True, scope="session")
def _read_once() -> Iterator[None]:
    """Hydra reads each file of the project's options once for all tests of a process, not once for each command."""
    found: dict[tuple[str, str], ConfigResult] = {}
    read = ConfigRepository.load_config

    def once(self: ConfigRepository, config_path: str) -> ConfigResult | None:
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        if source is None or source.path not in (f"{ROOT}/conf", "hydra.conf"):
            return read(self, config_path)
        key = (source.path, config_path)
        if key not in found:
            found[key] = read(self, config_path)
        return copy.deepcopy(found[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConfigRepository, "load_config", once)
        yield


@pytest.fixture(autouse=True)
def _own_store() -> Iterator[None]:
    """What a command on a checkpoint stores for Hydra ends with its test: Hydra copies the store in each command."""
    with own_store():
        yield


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained checkpoint of the smallest net, for toy streets; to be read, not changed."""
    return save_untrained(tmp_path_factory.mktemp("untrained") / "net.ckpt", *SMALL)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEMSEG_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


# Processes that are forked, signalled or limited, and permissions: Windows has none of these.
_POSIX = (
    "sweeps/*", "test_any_moment.py", "test_kill.py", "test_machine.py", "test_memory.py", "test_nodes.py",
    "test_processes.py", "test_slurm.py", "data/test_decoding.py", "callbacks/test_checkpoints.py",
)  # fmt: skip
collect_ignore_glob = [*_POSIX] if os.name == "nt" else []

_LAST = ("models/test_contract", "test_recipes", "test_configs", "test_overfit", "test_families_learn")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What goes through all nets or recipes comes last, nets that learn behind it: faults elsewhere show first.

    The longest of them begins before the others, or a process would be alone with it at the end.
    """

    def place(item: pytest.Item) -> int:
        return next((place for place, name in enumerate(_LAST, 1) if item.nodeid.startswith(f"tests/{name}.py")), 0)

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: the garbage collector need not look at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _same_start() -> None:
    torch.manual_seed(0)
    if os.environ.get("PYTEST_XDIST_WORKER"):
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def camvid_mini() -> Path:
    """The folder of forty real street images, 240x180."""
    folder = Path(os.environ.get("SEMSEG_DATA", SHARED / "data")) / "camvid-mini"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; set SEMSEG_DATA to the folder that holds camvid-mini")
    return folder


@pytest.fixture
def write_pair(tmp_path: Path) -> Callable[..., Path]:
    """Writes ``images/<name>.png`` and ``masks/<name>.png``; returns the root of both."""

    def write(name: str, *, label: np.ndarray, image: np.ndarray | None = None) -> Path:
        generator = np.random.default_rng(len(name))
        if image is None:
            image = generator.integers(0, 256, (*label.shape[:2], 3), dtype=np.uint8)
        for folder, array in (("images", image), ("masks", label)):
            path = tmp_path / folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), array)
        return tmp_path

    return write


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs ``python -m src.<command> <overrides>`` in an empty working folder, as a user would."""

    def call(
        command: str, *overrides: str, env: dict[str, str | None] | None = None
    ) -> subprocess.CompletedProcess[str]:
        variables = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "WANDB_MODE": "offline",
            "OMP_NUM_THREADS": "1",
            **(env or {}),
        }
        return subprocess.run(
            [sys.executable, "-m", f"src.{command}", *overrides],
            cwd=tmp_path,
            env={name: value for name, value in variables.items() if value is not None},
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )

    return call
