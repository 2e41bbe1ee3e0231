"""Two nodes, each a network namespace with its own address: one is killed, comes back, and the job goes on."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from tests.conftest import ROOT

ADDRESSES = {"a": "10.211.7.1", "b": "10.211.7.2"}
PATIENCE = 420  # seconds, for machines that do five other things
OPTIONS = [
    "data.length={train: 16, val: 2, test: 2}", "data.size=[32,64]", "data.num_workers=0", "data.eval_batch_size=1",
    "data.batch_size=2", "transforms.crop_size=[32,64]", "model.net.width_multiplier=0.25", "trainer=ddp",
    "trainer.accelerator=cpu", "trainer.devices=1", "trainer.num_nodes=2", "trainer.precision=32-true",
    "trainer.max_epochs=12", "logger=none", "callbacks.panels=null", "callbacks.charts=null", "preflight=false",
    "hydra.run.dir=run", "resume=auto",
]  # fmt: skip


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture
def nodes() -> Iterator[dict[str, str]]:
    """Names of two namespaces with a cable between them; their ends of it are called ``wire``."""
    if shutil.which("ip") is None:
        pytest.skip("ip is not installed (Debian: iproute2)")
    names = {node: f"semseg{os.getpid()}{node}" for node in ADDRESSES}
    try:
        for name in names.values():
            _ip("netns", "add", name)
        ends = {node: f"s{os.getpid()}{node}" for node in names}
        _ip("link", "add", ends["a"], "type", "veth", "peer", "name", ends["b"])
        for node, name in names.items():
            _ip("link", "set", ends[node], "netns", name, "name", "wire")
            _ip("-n", name, "address", "add", f"{ADDRESSES[node]}/24", "dev", "wire")
            for device in ("lo", "wire"):
                _ip("-n", name, "link", "set", device, "up")
    except subprocess.CalledProcessError as error:
        _remove(names)
        pytest.skip(f"network namespaces are not allowed here: {error.stderr.strip()}")
    yield names
    _remove(names)


def _remove(names: dict[str, str]) -> None:
    for name in names.values():
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("netns", "delete", name)


def _start(node: str, name: str, folder: Path) -> subprocess.Popen:
    """``torchrun`` on one node, in a process group of its own."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "wire"}
    env["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # else torch 2.13 does not tell a node that comes back whom to meet
    launcher = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d",
        f"--rdzv-endpoint={ADDRESSES['a']}:29411", "--rdzv-id=semseg", f"--local-addr={ADDRESSES[node]}",
        f"--rdzv-conf=is_host={int(node == 'a')}", "--max-restarts=5", "-m", "src.train", *OPTIONS,
    ]  # fmt: skip
    with (folder / f"{node}.txt").open("a") as output:
        return subprocess.Popen(
            ["ip", "netns", "exec", name, *launcher],
            cwd=folder, env=env, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


@pytest.mark.slow
def test_a_node_is_killed_and_comes_back(tmp_path: Path, nodes: dict[str, str]) -> None:
    last = tmp_path / "run/checkpoints/last.ckpt"
    agents = {node: _start(node, name, tmp_path) for node, name in nodes.items()}
    try:
        end = time.monotonic() + PATIENCE
        while not last.is_file():
            assert time.monotonic() < end, _told(tmp_path)
            assert all(agent.poll() is None for agent in agents.values()), _told(tmp_path)
            time.sleep(0.02)
        _kill(nodes["b"])
        agents["b"].wait()
        step = torch.load(last, weights_only=True)["global_step"]
        agents["b"] = _start("b", nodes["b"], tmp_path)
        for agent in agents.values():
            assert agent.wait(PATIENCE) == 0, _told(tmp_path)
    finally:
        for name in nodes.values():
            _kill(name)
    assert step < 48
    assert torch.load(last, weights_only=True)["global_step"] == 48  # 16 images, 2 on each of 2 nodes, 12 epochs
    assert (tmp_path / "run/scores_test.json").is_file()
    again = OmegaConf.load(tmp_path / "run/config_resumed.yaml")
    assert again.ckpt_path == "run/checkpoints/last.ckpt", "the job began anew"


def _kill(name: str) -> None:
    """All processes of a node, as when its power fails."""
    found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
    for process in map(int, found.stdout.split()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _told(folder: Path) -> str:
    return "\n".join((folder / f"{node}.txt").read_text()[-3000:] for node in ADDRESSES)
