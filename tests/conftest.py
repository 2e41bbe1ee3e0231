"""What tests share: tiny files on disk, tiny configs, and one thread per test process."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import src  # noqa: F401, before any library may import torchvision

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("SEMSEG_SHARED", ROOT.parent / "shared"))


@contextmanager
def files_of_at_most(limit: int) -> Iterator[None]:
    """Writes beyond ``limit`` bytes of a file fail, as they do on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEMSEG_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


_LAST = ("models/test_contract", "test_recipes", "test_configs", "test_families_learn", "test_overfit")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What goes through all nets or recipes comes last, nets that learn behind it: faults elsewhere show first."""

    def place(item: pytest.Item) -> int:
        return next((place for place, name in enumerate(_LAST, 1) if item.nodeid.startswith(f"tests/{name}.py")), 0)

    items.sort(key=place)


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
