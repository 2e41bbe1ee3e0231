"""The batch script for SLURM, with a stub for ``srun`` that notes what it is asked."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from src.cli.resume import prepare
from tests.conftest import ROOT

SCRIPT = ROOT / "scripts/slurm.sh"


def test_each_task_gets_its_cores_and_the_command_can_be_given_again(tmp_path: Path) -> None:
    (tmp_path / "srun").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/asked\n')
    (tmp_path / "srun").chmod(0o755)
    header = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)", SCRIPT.read_text(), re.MULTILINE))
    given = {
        "SLURM_NTASKS_PER_NODE": header["ntasks-per-node"],
        "SLURM_CPUS_PER_TASK": header["cpus-per-task"],
        "SLURM_JOB_NUM_NODES": "2",
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
    }
    subprocess.run(["bash", SCRIPT, "night", "model=fcn8s", "transforms.scale=[0.5, 2]"], env=given, check=True)
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[:2] == ["--kill-on-bad-exit=1", f"--cpus-per-task={header['cpus-per-task']}"]
    overrides = asked[asked.index("src.train") + 1 :]
    assert {"trainer.num_nodes=2", f"trainer.devices={header['gpus-per-node']}", "resume=auto"} <= {*overrides}
    assert overrides[-2:] == ["model=fcn8s", "transforms.scale=[0.5, 2]"]
    assert "hydra.run.dir='runs/train/night'" in prepare(overrides)[1]
    assert "/" not in header["output"]  # SLURM makes no folders, and a job whose log cannot be opened dies unheard


def test_a_job_without_a_name_is_told(tmp_path: Path) -> None:
    done = subprocess.run(["bash", SCRIPT], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode != 0
    assert "usage: sbatch scripts/slurm.sh NAME" in done.stderr
