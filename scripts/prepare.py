"""Check an unpacked download and make what loading needs: ``python scripts/prepare.py NAME [data.root=PATH]``.

Folders, pairs, counts against the published ones, and of a sample sizes and label values; labels in ``.mat`` files are
copied to PNG. Exits with status 1 if anything is missing, after saying where to download it.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from omegaconf import DictConfig, OmegaConf

from src.build import allowed
from src.build.from_config import with_classes
from src.build.instantiate import instantiate
from src.cli.command import command
from src.data import Source
from src.data.doctor.audit import audit
from src.data.sets.registry import archives, count_finding
from src.errors import UserError
from src.files.project import CONFIG_DIR


def prepare(cfg: DictConfig) -> None:
    """Prints a line per split and what must be fixed; exits with status 1 if something must."""
    release = cfg.data.get("release")
    if release is None:
        raise UserError(f"data={cfg.data.name} is not a published download; use one of {', '.join(_published())}")
    make = instantiate(cfg.data.dataset, allowed.DATA)
    needed = {
        name for names in cfg.data.splits.values() for name in ([names] if isinstance(names, str) else names or ())
    }
    splits = list(dict.fromkeys([*release.images, *sorted(needed)]))
    width = max(map(len, splits)) + 2
    print(f"{cfg.data.name} in {Path(cfg.data.root).expanduser().resolve()}", flush=True)
    wrong = False
    for split in splits:
        try:
            problems = _problems(make(split=split), split, cfg)
        except UserError as error:
            if split not in needed:
                print(f"{split:<{width}}not there, and not needed to train or validate", flush=True)
                continue
            problems = [str(error)]
        wrong |= bool(problems)
        print(f"{split:<{width}}" + ("complete" if not problems else "\n- ".join(["to fix:", *problems])), flush=True)
    if wrong:
        print("\n".join(["", "archives:", *(f"- {line}" for line in archives(release))]))
        sys.exit(1)


def _problems(source: Source, split: str, cfg: DictConfig) -> list[str]:
    """What is wrong with a split that could be listed."""
    with_classes(cfg, source.label_space)
    count = count_finding(cfg.data.release, split, len(source))
    return [*([count] if count else []), *audit(source, limit=cfg.limit, progress=True).problems]


def _published() -> list[str]:
    return [path.stem for path in sorted((CONFIG_DIR / "data").glob("*.yaml")) if _has_release(path)]


def _has_release(path: Path) -> bool:
    """Whether a YAML, or one that it builds upon, says what the complete download holds."""
    content = OmegaConf.load(path)
    return "release" in content or any(
        _has_release(path.with_name(f"{name}.yaml")) for name in content.get("defaults", ())
    )


def _named(overrides: list[str]) -> tuple[str, list[str]]:
    """NAME, the first argument, is the option ``data``."""
    if overrides and not overrides[0].startswith("-") and "=" not in overrides[0]:
        return "prepare", [f"data={overrides[0]}", *overrides[1:]]
    if not any(item.startswith(("data=", "-")) for item in overrides):
        raise UserError(
            f"name a data set: python scripts/prepare.py NAME data.root=PATH, one of {', '.join(_published())}"
        )
    return "prepare", overrides


if __name__ == "__main__":
    command("prepare", prepare, prepare=_named)
