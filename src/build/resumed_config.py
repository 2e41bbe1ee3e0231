"""How a run is resumed: from which checkpoint, with values from that, and what steers the program from ``conf``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ..errors import UserError
from ..files.atomic import write_bytes
from ..files.project import CONFIG_DIR
from ..files.run_files import BEST_CHECKPOINT, LAST_CHECKPOINT, WANDB_ID
from .config_values import as_plain
from .from_checkpoint import read_metadata, saved_config
from .saved_config import MODEL, read_sections

__all__ = ["config_to_resume", "keep_wandb_id", "readable_checkpoint", "resumed_config"]

_TRAINING = (*MODEL, "transforms", "sampler", "loss", "aux_loss", "optimizer", "schedule", "trainer")
_STEERING = ("task", "run_dir", "resume", "init_from", "ckpt_path")  # options of src.train that no file sets
_PLACES = ("_target_", "dirpath", "filename", "folder", "run_dir", "save_dir", "version")  # what is called, and where
_TRAINER = (  # options of Lightning's trainer that conf/trainer lacks: plain values which only shape a fit
    *("min_epochs", "min_steps", "max_time", "overfit_batches", "benchmark", "detect_anomaly", "profiler"),
    *("gradient_clip_algorithm", "fast_dev_run", "enable_progress_bar"),
)


def readable_checkpoint(run_dir: Path) -> Path:
    """The last checkpoint of a run, or its best one, and a line that says so, where the last is damaged.

    Raises:
        UserError: if the best cannot be read either.
    """
    last, best = run_dir / LAST_CHECKPOINT, run_dir / BEST_CHECKPOINT
    try:
        saved_config(last)
    except UserError as error:
        if not best.is_file():
            raise
        saved_config(best)
        print(f"note: resuming from {best}, because the last checkpoint cannot be used: {error}", flush=True)
        return best
    return last


def keep_wandb_id(checkpoint: Path, run_dir: Path) -> None:
    """Writes the id of the wandb run to resume, which a checkpoint names, into a run folder that has lost it."""
    saved = read_metadata(checkpoint).get("wandb_id")
    file = run_dir / WANDB_ID
    if isinstance(saved, str) and re.fullmatch(r"[\w-]{1,64}", saved) and not file.is_file():
        write_bytes(file, saved.encode())


def config_to_resume(path: str | Path, given: Sequence[str]) -> dict[str, Any]:
    """The config with which the run of a checkpoint is resumed, see ``resumed_config``.

    Raises:
        UserError: as ``read_metadata`` and ``resumed_config``.
    """
    return resumed_config(read_metadata(path)["config"], path, given)


def resumed_config(config: Any, where: object, given: Sequence[str] = ()) -> dict[str, Any]:
    """Merge a checkpoint's config into that of the installed ``src.train``.

    The sections of a training come from the checkpoint, as ``src.build.saved_config`` reads them; so do the plain
    values of ``conf/train.yaml`` itself and of the trainer. Of callbacks and loggers the checkpoint may switch those of
    ``conf`` off and set their plain values, but it says neither what they are nor where they write.

    Args:
        config: as the checkpoint has it.
        where: checkpoint, for the error.
        given: options of the command line, which may bring callbacks and loggers that ``conf`` does not have.

    Raises:
        UserError: as ``read_sections``, and for callbacks and loggers that neither ``conf`` nor ``given`` has.
    """
    installed = _conf("train")
    others = {*_STEERING, *_TRAINING, "callbacks", "logger", "hydra", "defaults"}
    own = [name for name in installed if name not in others]
    found = read_sections(config, where, (*_TRAINING, *own))
    of_trainer = {*_TRAINER, *(name for path in CONFIG_DIR.glob("trainer/*.yaml") for name in OmegaConf.load(path))}
    trainer = _mapping(found.get("trainer"))
    loggers = [path.stem for path in CONFIG_DIR.glob("logger/*.yaml")]
    return {
        **{name: installed[name] for name in (*_STEERING, *own)},
        **found,
        "trainer": {name: value for name, value in trainer.items() if name in of_trainer},
        "callbacks": _switched("callbacks", config.get("callbacks"), ["default"], where, given),
        "logger": _switched("logger", config.get("logger"), loggers, where, given),
    }


def _switched(
    section: str, saved: Any, files: Sequence[str], where: object, given: Sequence[str]
) -> dict[str, dict[str, Any] | None]:
    """The parts that a checkpoint has of a section, as ``conf`` has them but for plain values."""
    installed = {name: part for file in files for name, part in _conf(f"{section}/{file}").items()}
    parts: dict[str, dict[str, Any] | None] = {}
    for name, options in _mapping(saved).items():
        if name in installed:
            parts[name] = None if options is None else _with_values(installed[name], _mapping(options))
        elif options is not None and not any(_sets(item, f"{section}.{name}") for item in given):
            raise UserError(
                f"{where}: the run has {section}.{name}, which conf/{section} does not have, and a file may not bring"
                f" one; give it on the command line again, '+{section}.{name}={{_target_: ...}}', or resume without it,"
                f" +{section}.{name}=null"
            )
    return parts


def _with_values(part: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """``part`` with those of its plain values that ``values`` has too; what it takes from the run it keeps."""

    def settable(key: str, old: Any) -> bool:
        return key in values and key not in _PLACES and _is_plain(old) and _is_plain(values[key])

    return {key: values[key] if settable(key, old) else old for key, old in part.items()}


def _is_plain(value: Any) -> bool:
    """Whether this is a value, or a list of values, and none refers to another."""
    values = value if isinstance(value, list) else [value]
    return all(isinstance(each, bool | int | float | str | None) and "${" not in str(each) for each in values)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _sets(override: str, option: str) -> bool:
    return re.match(rf"[+~]*{re.escape(option)}\b", override) is not None


def _conf(name: str) -> dict[str, Any]:
    return as_plain(OmegaConf.load(CONFIG_DIR / f"{name}.yaml"), resolve=False) or {}
