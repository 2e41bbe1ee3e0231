"""Files for the Cityscapes test server: ``python -m src.submit ckpt=PATH data=cityscapes split=test out=FILE.zip``.

The server takes one single-channel 8-bit PNG of label ids (not train ids) per image, at the image's full size, whose
name begins with ``<city>_<sequence>_<frame>``, all of them in one archive.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from src.build import allowed, from_checkpoint
from src.build.instantiate import instantiate
from src.cli.scored_size import say_difference
from src.data import Source
from src.data.decoding import read_label
from src.data.sets.cityscapes import TRAIN_ID_TO_RAW_ID, label_space
from src.data.source import FileSource
from src.errors import UserError
from src.files.atomic import locked, sha256, whole_file
from src.files.images import choose_device, read_ahead
from src.prediction.output_record import OutputRecord, writing
from src.reports import console
from src.reports.pictures import save_png
from src.training.module import SegmentationModule

_MANIFEST = "submission.json"
_PNG_END = b"IEND\xaeB`\x82"


def submit(cfg: DictConfig) -> Path:
    """Predicts what is missing, checks every file, and packs them; returns the archive."""
    console.quiet()
    out = Path(cfg.out)
    device = choose_device(cfg.device)
    module = from_checkpoint.load_module(
        cfg.ckpt, inference=cfg.inference, model=cfg.model, output_stride=cfg.output_stride
    )
    say_difference(cfg)
    source = instantiate(cfg.data.dataset, allowed.DATA)(split=cfg.split)
    values = _label_ids(cfg, module)
    _check_source(cfg, source)
    folder = out.with_suffix("")
    if out.exists() and not (folder / _MANIFEST).is_file():
        raise UserError(f"out={out}: is there already, and src.submit did not write it; choose another out=")
    with locked(folder, "writing to it"):
        record = OutputRecord(folder, _MANIFEST, _made_with(cfg), command="src.submit", foreign=folder.rglob("*.png"))
        before = _predict_missing(module.to(device), source, folder, values, record)
        paths = _checked(source, folder, values)
        _pack(paths, out)
    console.say(
        f"{len(paths)} label files ({before} of them from before) in {folder}, all checked: names, sizes, label ids\n"
        f"to upload: {out} ({out.stat().st_size / 2**20:.1f} MiB)"
    )
    return out


def _label_ids(cfg: DictConfig, module: SegmentationModule) -> np.ndarray:
    """(256,) uint8 train id -> label id, of the net's classes, which must be those of the server."""
    wanted, found = label_space().names, module.label_space.names
    if tuple(found) != tuple(wanted):
        odd = next((name for name in found if name not in wanted), None)
        raise UserError(
            f"{cfg.ckpt} was trained on {len(found)} classes{f', among them {odd!r}' if odd else ''}; the server scores"
            f" the {len(wanted)} of Cityscapes in their order ({', '.join(wanted[:3])}, ...); train on data=cityscapes"
        )
    table = np.zeros(256, np.uint8)
    table[: len(wanted)] = TRAIN_ID_TO_RAW_ID
    return table


def _check_source(cfg: DictConfig, source: Source) -> None:
    """The images are as many as the server wants, and named as it tells them apart."""
    names = [source.name(index) for index in range(len(source))]
    if cfg.images is not None and len(names) != cfg.images:
        raise UserError(
            f"split={cfg.split} has {len(names)} images in {cfg.data.root} and the server wants {cfg.images}; unpack"
            " leftImg8bit_trainvaltest.zip completely, or set images=null for a part of them"
        )
    for name in names:
        if not re.fullmatch(r"[^_/]+_\d{6}_\d{6}", name):
            raise UserError(f"{name}: is not named <city>_<sequence>_<frame> as in Cityscapes; set data=cityscapes")
    size = None if cfg.size is None else (cfg.size[1], cfg.size[0])
    odd = next((i for i in range(len(source)) if size and source.size(i) != size), None)
    if odd is not None:
        height, width = source.size(odd)
        raise UserError(
            f"{names[odd]}: is {width}x{height} and the server wants {cfg.size[0]}x{cfg.size[1]} (width x height); use"
            " the images as they were downloaded, or set size=null"
        )


def _made_with(cfg: DictConfig) -> dict[str, Any]:
    """What label files depend on besides the image."""
    chosen = {"inference": cfg.inference, "model.scales": cfg.model.get("scales") or {}}
    chosen |= {"output_stride": cfg.output_stride, "split": cfg.split}
    plain = {key: OmegaConf.to_container(OmegaConf.create({"it": each}))["it"] for key, each in chosen.items()}
    return {"ckpt": sha256(cfg.ckpt), **plain}


def _predict_missing(
    module: SegmentationModule, source: Source, folder: Path, values: np.ndarray, record: OutputRecord
) -> int:
    """Writes every label file that is not there yet for the image as it is now; returns how many were."""

    def is_there(index: int) -> bool:
        path, image = _path(source, index, folder), _image(source, index)
        made = image is None or record.is_made_from(path.name, image, [path])
        return made and _fault(source, index, folder, values) is None

    missing = [index for index in range(len(source)) if not is_there(index)]
    with ThreadPoolExecutor(2) as pool, torch.inference_mode():
        images = read_ahead(pool, lambda index: source.read(index)[0], missing)
        for index, image in tqdm(images, total=len(missing), unit="image", disable=None):
            if isinstance(image, UserError):
                raise image
            batch = torch.from_numpy(image).to(module.device).permute(2, 0, 1)[None]
            path = _path(source, index, folder)
            with writing(path):
                save_png(path, values[module.predict_label(batch)[0].cpu().numpy()])
            if _image(source, index) is not None:
                record.add(path.name)
    return len(source) - len(missing)


def _image(source: Source, index: int) -> Path | None:
    """The file of an image; ``None`` where it is none of its own, as in shards."""
    return source.pairs[index].image if isinstance(source, FileSource) else None


def _path(source: Source, index: int, folder: Path) -> Path:
    return folder / f"{source.name(index)}_pred_labelIds.png"


def _fault(source: Source, index: int, folder: Path, values: np.ndarray) -> str | None:
    """What is wrong with a label file; ``None`` if nothing is."""
    path = _path(source, index, folder)
    try:
        label = read_label(path)
    except UserError as error:
        return str(error)
    if not path.read_bytes().endswith(_PNG_END):  # a reader that needs no more pixels would not notice
        return f"{path}: is cut short"
    if label.shape != source.size(index):
        return f"{path}: is not of its image's size"
    if not np.isin(np.unique(label), values[values > 0]).all():
        return f"{path}: holds values that are no label ids of scored classes"
    return None


def _checked(source: Source, folder: Path, values: np.ndarray) -> list[Path]:
    """All label files in order, after every one has been read again."""
    paths = [_path(source, index, folder) for index in range(len(source))]
    spare = sorted(set(folder.rglob("*.png")) - set(paths))
    every = tqdm(range(len(source)), desc="check", unit="image", disable=None)
    faults: Iterator[str] = filter(None, (_fault(source, index, folder, values) for index in every))
    fault = f"{spare[0]}: belongs to no image of the split" if spare else next(faults, None)
    if fault:
        raise UserError(f"{fault}; nothing was packed: remove it and give the same command again")
    return paths


def _pack(paths: list[Path], out: Path) -> None:
    """One archive, the same bytes for the same files, there only when it is whole."""
    with writing(out), whole_file(out) as partial, zipfile.ZipFile(partial, "w") as archive:
        for path in paths:
            archive.writestr(zipfile.ZipInfo(path.name), path.read_bytes())  # PNGs do not get smaller
