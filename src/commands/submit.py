"""Files for the Cityscapes test server: ``python -m src.submit ckpt=PATH data=cityscapes split=test out=FILE.zip``.

The server takes one single-channel 8-bit PNG of label ids (not train ids) per image, at the image's full size, whose
name begins with ``<city>_<sequence>_<frame>``, all of them in one archive.
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from ..build import allowed
from ..build.instantiate import instantiate
from ..errors import UserError
from ..files.atomic import locked
from ..prediction.output_record import OutputRecord
from ..prediction.submission import Submission, check_classes, check_images
from ..reports import console
from ..runtime.environment import choose_device
from .checkpoint import as_label, load, made_with

_MANIFEST = "submission.json"


def submit(cfg: DictConfig) -> Path:
    """Predicts what is missing, checks every file, and packs them; returns the archive."""
    console.quiet()
    out = Path(cfg.out)
    module = load(cfg, device=choose_device(cfg.device))
    source = instantiate(cfg.data.dataset, allowed.DATA)(split=cfg.split)
    check_classes(module.label_space.names, cfg.ckpt)
    size = None if cfg.size is None else (cfg.size[0], cfg.size[1])
    check_images(source, split=cfg.split, root=cfg.data.root, count=cfg.images, size=size)
    folder = out.with_suffix("")
    if out.exists() and not (folder / _MANIFEST).is_file():
        raise UserError(f"out={out}: is there already, and src.submit did not write it; choose another out=")
    with locked(folder, "writing to it"):
        settings = made_with(cfg, "split")
        record = OutputRecord(folder, _MANIFEST, settings, command="src.submit", foreign=folder.rglob("*.png"))
        submission = Submission(source, record)
        before = submission.predict_missing(as_label(module))
        submission.check()
        submission.pack(out)
    console.say(
        f"{len(submission.paths)} label files ({before} of them from before) in {folder}, all checked: names, sizes,"
        f" label ids\nto upload: {out} ({out.stat().st_size / 2**20:.1f} MiB)"
    )
    return out
