"""What stands in the way of a training on a computer, each time with its remedy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from src.data.doctor.machine import Gpu, Machine, machine_facts, notes, problems, report

GIB = 2**30
H200 = Gpu("H200", 100 * GIB, 139 * GIB, (9, 0))
PINS = {"torch": "2.13.0", "omegaconf": "2.3.1"}


def machine(**facts: Any) -> Machine:
    """A sound computer with one GPU, but for ``facts``."""
    good = {
        "cores": 8, "torch": "2.13.0+cu126", "cuda": "12.6", "kernels": ("sm_80", "sm_90"), "gpus": (H200,),
        "driver": (12, 8), "driver_name": "570.86.15", "driver_gpus": 1, "memory": (60 * GIB, 64 * GIB),
        "shared": 16 * GIB, "disks": {"runs": 100 * GIB}, "packages": dict(PINS), "pins": dict(PINS),
    }  # fmt: skip
    return Machine(**good | facts)


def only(sentences: list[str]) -> str:
    assert len(sentences) == 1, sentences
    return sentences[0]


def test_a_sound_computer() -> None:
    sound = machine()
    assert problems(sound, loading=GIB) == notes(sound) == []
    text = report(sound)
    for word in (
        "8 cores",
        "2.13.0+cu126",
        "CUDA 12.6",
        "H200, 100 GiB free of 139 GiB",
        "570.86.15",
        "CUDA up to 12.8",
    ):
        assert word in text
    for word in ("60 GiB free of 64 GiB", "/dev/shm 16 GiB free", "runs: 100 GiB free"):
        assert word in text


def test_a_computer_without_gpu_and_without_a_build_for_one_is_sound() -> None:
    plain = machine(torch="2.13.0+cpu", cuda=None, kernels=(), gpus=(), driver=None, driver_name=None, driver_gpus=0)
    assert problems(plain) == notes(plain) == []
    assert "without CUDA" in report(plain)
    assert "none that torch can use; NVIDIA driver: none" in report(plain)


def test_a_gpu_that_lies_idle() -> None:
    sentence = only(notes(machine(torch="2.13.0+cpu", cuda=None, kernels=(), gpus=())))
    assert "1 NVIDIA GPU(s) lie idle, as torch 2.13.0+cpu is a CPU build" in sentence
    assert "pytorch.org/get-started" in sentence


def test_a_cuda_build_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    sentence = only(notes(machine(gpus=(), driver=None, driver_gpus=0)))
    assert "no NVIDIA driver; install one, or train with trainer=cpu" in sentence
    sentence = only(notes(machine(gpus=(), driver=(11, 4))))
    assert "built for CUDA 12.6" in sentence
    assert "runs CUDA up to 11.4" in sentence
    assert "update the driver" in sentence
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "unset it" in only(notes(machine(gpus=())))


@pytest.mark.parametrize(
    ("capability", "kernels", "fits"),
    [
        ((9, 0), ("sm_80", "sm_90"), True),
        ((8, 9), ("sm_80", "sm_90"), True),
        ((9, 0), ("sm_90a",), True),
        ((10, 0), ("sm_80", "sm_90"), False),
        ((10, 0), ("sm_90", "compute_90"), True),
        ((12, 0), ("sm_100", "sm_120"), True),
        ((7, 0), ("sm_75", "sm_80"), False),
        ((9, 0), ("gfx90a",), True),
        ((9, 0), (), True),
    ],
)
def test_a_gpu_that_the_build_has_no_code_for(capability: tuple, kernels: tuple, fits: bool) -> None:
    found = problems(machine(gpus=(H200._replace(capability=capability),), kernels=kernels))
    assert not found if fits else "trainer=cpu" in only(found)


def test_batches_that_do_not_fit_into_shared_memory() -> None:
    small = machine(shared=64 * 2**20)
    assert problems(small, loading=32 * 2**20) == []
    sentence = only(problems(small, loading=GIB))
    assert "/dev/shm has 64 MiB free but batches on their way take 1 GiB" in sentence
    assert "data.num_workers=0" in sentence
    assert "--shm-size=2g" in sentence
    assert problems(machine(shared=None), loading=GIB) == []


def test_a_full_disk_and_little_memory() -> None:
    assert "runs: only 512 MiB of disk" in only(problems(machine(disks={"runs": GIB // 2, "cache": 9 * GIB})))
    assert "only 1 GiB of memory" in only(notes(machine(memory=(GIB, 64 * GIB))))


def test_packages_that_write_the_same_files() -> None:
    sentence = only(notes(machine(packages={**PINS, "opencv-python": "5.0.0"})))
    assert "pip uninstall -y opencv-python opencv-python-headless && pip install" in sentence


def test_versions_that_were_not_tested() -> None:
    sentence = only(notes(machine(packages={"omegaconf": "2.4.0"})))
    assert "torch missing (pinned 2.13.0), omegaconf 2.4.0 (pinned 2.3.1); pip install -r requirements.txt" in sentence


def test_the_facts_of_this_computer(tmp_path: Path) -> None:
    facts = machine_facts({"here": tmp_path / "not/yet/made"}, 3)
    assert facts.cores == 3
    assert facts.torch == torch.__version__
    assert facts.pins["hydra-core"] == facts.packages["hydra-core"]
    assert len(facts.gpus) == torch.cuda.device_count()
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    assert facts.disks["here"] == pytest.approx(free, rel=0.1)
    if Path("/proc/meminfo").exists():
        assert 0 < facts.memory[0] < facts.memory[1]
