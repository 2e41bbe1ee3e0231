"""Files for the Cityscapes test server: ``python -m src.submit ckpt=PATH data=cityscapes split=test out=FILE.zip``.

The server takes one single-channel 8-bit PNG of label ids (not train ids) per image, at the image's full size, whose
name begins with ``<city>_<sequence>_<frame>``, all of them in one archive.
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from src.build import allowed
from src.build.instantiate import instantiate
from src.commands.checkpoint import as_label, load, made_with
from src.errors import UserError
from src.files.atomic import locked
from src.prediction.output_record import OutputRecord
from src.prediction.submission import Submission, check_classes, check_images
from src.reports import console
from src.runtime.environment import choose_device

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
