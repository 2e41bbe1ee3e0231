"""``resume=...`` of ``src.train``: the config, the folder and the checkpoint of the run to resume."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import UserError
from ..files.project import CONFIG_DIR
from ..files.run_files import LAST_CHECKPOINT
from ..training.budget import check_alone
from .checkpoint_defaults import offer
from .overrides import name_of, quoted, value_of, without

__all__ = ["has_checkpoint", "newest_run", "prepare"]


def prepare(overrides: list[str]) -> tuple[str, list[str]]:
    """Turns ``resume=...`` into the config of that run, its folder, and its last checkpoint.

    ``resume=auto`` is for commands that a scheduler repeats as they are: it resumes the run in its folder, and starts
    it where there is no checkpoint yet.
    """
    check_alone(value_of("budget", overrides), overrides)
    resume = value_of("resume", overrides)
    if not resume:
        return "train", overrides
    own = without("resume", overrides)
    if resume == "auto":
        run_dir = _folder_of_job(own)
        if not has_checkpoint(run_dir):
            return "train", [*own, quoted("hydra.run.dir", run_dir), "resume=auto"]
        # The command is the one that started the run, whose choices and additions its checkpoint has: groups and
        # deletions are left out, and +name=value becomes ++name=value, which also sets what is there.
        own = [item for item in without("hydra.run.dir", own) if not _chooses_group(item) and not item.startswith("~")]
        own = [f"+{item}" if item.startswith("+") and not item.startswith("++") else item for item in own]
    else:
        run_dir = newest_run() if resume == "last" else Path(resume)
    if not has_checkpoint(run_dir):
        _refuse_bundle(resume)
        raise UserError(
            f"resume={resume}: {run_dir / LAST_CHECKPOINT} not found; name the folder of a run that saved one"
        )
    if groups := [item for item in own if _chooses_group(item)]:
        raise UserError(
            f"{groups[0]}: a resumed run keeps its own choices; override single values (trainer.accelerator=cpu), or"
            " start a new run with init_from"
        )
    return _resumed(run_dir, own)


def _resumed(run_dir: Path, overrides: list[str]) -> tuple[str, list[str]]:
    from ..build import resumed_config  # imports torch, which --help need not wait for

    checkpoint = resumed_config.readable_checkpoint(run_dir)
    resumed_config.keep_wandb_id(checkpoint, run_dir)
    offer(None, "resumed", resumed_config.config_to_resume(checkpoint, overrides))
    return "resumed", [
        *overrides,
        "init_from=null",
        quoted("ckpt_path", checkpoint),
        quoted("hydra.run.dir", run_dir),
        "hydra.output_subdir=null",
        "hydra/hydra_logging=none",
        "hydra/job_logging=none",
    ]


def _refuse_bundle(resume: str) -> None:
    from ..checkpoints.bundle import is_bundle  # imports torch, which --help need not wait for

    if is_bundle(resume):
        raise UserError(
            f"resume={resume}: a bundle cannot be resumed, since it has no state of a training; use init_from={resume}"
        )


def has_checkpoint(run_dir: Path) -> bool:
    """Whether a run has saved one to resume from."""
    return (run_dir / LAST_CHECKPOINT).is_file()


def _chooses_group(override: str) -> bool:
    name = name_of(override)
    return bool(name) and (CONFIG_DIR / name).is_dir()


def _folder_of_job(overrides: list[str]) -> Path:
    """The run folder that every start of one job shares."""
    if folder := value_of("hydra.run.dir", overrides):
        return Path(folder)
    for launcher, variable in (("slurm", "SLURM_JOB_ID"), ("torchrun", "TORCHELASTIC_RUN_ID")):
        job = os.environ.get(variable, "none")
        if job != "none":
            return Path(f"runs/train/{launcher}_{job}")
    raise UserError("resume=auto needs the run's folder, to find it again: add hydra.run.dir=runs/train/<name>")


def newest_run() -> Path:
    """The run folder under ``runs/train`` whose last checkpoint is the newest."""
    found = sorted(Path("runs/train").glob(f"*/{LAST_CHECKPOINT}"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UserError(
            "resume=last: no run with a checkpoint lies under runs/train; give its folder as resume=<folder>"
        )
    return found[-1].parents[1]
