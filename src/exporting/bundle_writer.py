"""A checkpoint as a bundle (``checkpoints.bundle``): the same weights and options, a card, and nothing of its run."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import cv2
import numpy as np
import torch
from safetensors.torch import save
from timm.models import get_pretrained_cfg

from ..build.config_values import as_config
from ..build.from_checkpoint import checkpoint_file, load_module, read_metadata
from ..build.saved_config import LEFT, read_sections
from ..checkpoints.bundle import (
    CARD,
    CONFIG,
    FORMAT,
    PICTURE,
    SUMS,
    VERSION,
    WEIGHTS,
    ZIP_SUFFIX,
    identity,
    is_bundle,
    read_config,
)
from ..checkpoints.load import load_checkpoint, weights_of_run
from ..errors import UserError, printable
from ..files.atomic import whole_file, whole_folder
from ..files.output_paths import check_no_input
from ..files.run_files import scores_file
from ..hub.address import is_address
from ..reports import pictures
from ..reports.scores_file import read_scores
from ..training.module import SegmentationModule
from .check_images import generated, images_at_hand
from .model_card import model_card

__all__ = ["write_bundle"]

_FILES = (WEIGHTS, CONFIG, CARD, PICTURE, SUMS)
_STATISTICS = ("mean", "std", "channel_order")
_LEFT_OUT = ("confusion_matrix", "reliability", "classes", "colors")  # of scores: large, or said elsewhere
_SIDE = 512  # of the image that scores are compared on
_SHOWN = 1024  # longest side of the picture of an image
_WHEN = (1980, 1, 1, 0, 0, 0)  # in archives, so that the same model gives the same file


def write_bundle(
    checkpoint: str | Path,
    out: str | Path,
    *,
    inference: Mapping[str, Any] | None = None,
    scales: Mapping[str, Any] | None = None,
    name: str | None = None,
    licence: str | None = None,
    source: str | None = None,
    picture: bool = True,
) -> Path:
    """Writes a checkpoint as a bundle, reads it back, and compares the scores of both on an image.

    Args:
        checkpoint: file, run folder, or another bundle.
        out: a folder, or one zip where the name ends in ``.semseg.zip``; a bundle that is there is replaced.
        inference: plain values, in place of those it was validated with.
        scales: plain values of the same kind of net over scales, in place of its own.
        name: of the model on its card; by default that of ``out``.
        licence: of the weights, as model hubs name it, such as ``apache-2.0``; unknown if it is not given.
        source: image to show on the card; ``None`` for one of the validation images, if they are at hand.
        picture: whether an image is shown.

    Returns:
        ``out``.

    Raises:
        UserError: if the checkpoint cannot be used, ``out`` is something else than a bundle, or the bundle's net is
            not the checkpoint's to the last bit. ``out`` is then left as it was.
    """
    checkpoint, out = checkpoint_file(checkpoint), Path(out)
    _check_out(out, checkpoint)
    module = load_module(
        checkpoint,
        inference=None if inference is None else as_config(inference),
        model=None if scales is None else as_config({"scales": dict(scales)}),
    )
    config = _config(checkpoint, module, inference=inference, scales=scales)
    where, images = images_at_hand(checkpoint, source=source, count=1) if picture or source else ("", [])
    files = {
        WEIGHTS: _weights(checkpoint),
        CONFIG: (json.dumps(config, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode(),
        **({PICTURE: _picture(module, images[0])} if images and picture else {}),
    }
    where = where if source is None else "an image that was chosen for it"  # whose name may tell of its owner
    shown = f"The picture shows {where}." if PICTURE in files else ""
    names = (*files, CARD, SUMS)
    files[CARD] = model_card(config, name=name or _name(out), licence=licence, shown=shown, files=names).encode()
    files[SUMS] = "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files)).encode()
    with (whole_file if _is_zip(out) else whole_folder)(out) as partial:
        _write(files, partial)
        _compare(module, load_module(partial), images[0] if images else generated(1)[1][0])
    return out


def _is_zip(out: Path) -> bool:
    return out.name.lower().endswith(ZIP_SUFFIX)


def _name(out: Path) -> str:
    return out.resolve().name[: -len(ZIP_SUFFIX)] if _is_zip(out) else out.resolve().name


def _check_out(out: Path, checkpoint: Path) -> None:
    """Refuses what is no place for a bundle, so that only bundles are ever replaced, and those whole."""
    check_no_input(out, [checkpoint])
    if not _is_zip(out) and out.suffix.lower() in (".zip", ".ckpt", ".onnx", ".pt2", ".safetensors"):
        raise UserError(f"out={out}: is the name of another kind of file; name a folder, or a file NAME{ZIP_SUFFIX}")
    if is_bundle(out.resolve().parent):
        raise UserError(f"out={out}: lies in a bundle, which would be none then; choose a place outside of it")
    if not out.exists() and not out.is_symlink():
        return
    empty = out.is_dir() and not any(out.iterdir())
    if out.is_symlink() or out.is_dir() == _is_zip(out) or not (empty or is_bundle(out)):
        raise UserError(f"out={out}: is there and is no bundle, so it is not replaced; choose another name")
    other = sorted(path.name for path in out.iterdir() if path.name not in _FILES) if out.is_dir() else []
    if other:
        raise UserError(f"out={out}: holds {other[0]} beside a bundle, so it is not replaced; choose another name")


def _weights(checkpoint: Path) -> bytes:
    state = weights_of_run(load_checkpoint(checkpoint), checkpoint)
    # Tensors may share memory or be laid out otherwise in a checkpoint; a safetensors file has neither.
    return save({name: tensor.detach().clone().contiguous() for name, tensor in state.items()}, {"format": "pt"})


def _config(
    checkpoint: Path,
    module: SegmentationModule,
    *,
    inference: Mapping[str, Any] | None,
    scales: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """What ``config.json`` holds, in plain containers."""
    before = read_config(checkpoint) if is_bundle(checkpoint) else {}
    saved = read_metadata(checkpoint)["config"]
    sections = read_sections(saved, checkpoint)
    if inference is not None:
        sections["inference"] = dict(inference)
    if scales is not None:
        sections["model"] = {**sections["model"], "scales": dict(scales)}
    data = _without_places(sections.pop("data"))
    as_trained = inference is None and scales is None
    scores = before.get("scores", _scores(checkpoint)) if as_trained else {}
    return {
        "format": FORMAT,
        "version": VERSION,
        **sections,
        "normalisation": {**{"channel_order": "rgb"}, **{key: data.pop(key) for key in _STATISTICS if key in data}},
        "data": data,
        "label_space": module.label_space.to_dict(),
        "scores": scores,
        "start": before.get("start", _start(saved)),
        "checkpoint": before.get("checkpoint", {"name": printable(checkpoint.name), "sha256": identity(checkpoint)}),
    }


def _without_places(node: Any) -> Any:
    """``node`` with paths of this computer left to the command line: they say who trained, and lead nowhere else."""
    if isinstance(node, dict):
        return {key: _without_places(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_without_places(value) for value in node]
    return LEFT if isinstance(node, str) and _is_place(node) else node


def _is_place(text: str) -> bool:
    return text.startswith("~") or PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()


def _scores(checkpoint: Path) -> dict[str, Any]:
    """Split -> scores of exactly these weights that lie in the checkpoint's run folder, with their stamps."""
    if checkpoint.parent.name != "checkpoints":
        return {}
    own, found = identity(checkpoint), {}
    for path in sorted(checkpoint.parents[1].glob(scores_file("*"))):
        scores = read_scores(path, remedy="remove it, or score the checkpoint again")
        stamp = scores.protocol
        measured = stamp.get("checkpoint") or {}
        if not isinstance(measured, Mapping) or measured.get("sha256") != own:
            continue  # of other weights of the run, or of nobody knows which
        stamp["checkpoint"] = {"name": printable(checkpoint.name), "sha256": own}
        kept = {name: value for name, value in scores.content.items() if name not in _LEFT_OUT}
        found[scores.split] = {**kept, "protocol": stamp}
    return found


def _start(saved: Mapping[str, Any]) -> dict[str, str]:
    """What the weights were before training, and the licence of that, as far as it is known."""
    model = saved.get("model") or {}
    net = model.get("net") or {}
    backbone = net.get("backbone") or {}
    if converted := saved.get("converted"):
        project = converted.get("project") if isinstance(converted, Mapping) else converted
        return {"weights": f"converted from {project}", "licence": "unknown"}
    if before := saved.get("init_from"):
        return {"weights": _file_name(str(before)), "licence": "unknown"}
    if weights := net.get("encoder_weights"):
        return {"weights": f"{weights} of segmentation_models_pytorch", "licence": "unknown"}
    wanted = backbone.get("pretrained") if isinstance(backbone, Mapping) else None
    if not wanted:
        return {}
    if isinstance(wanted, str):
        return {"weights": _file_name(wanted), "licence": "unknown"}
    name = str(backbone.get("name"))
    known = get_pretrained_cfg(name, allow_unregistered=False) if "${" not in name else None
    if known is None:
        return {"weights": f"ImageNet weights of {name}", "licence": "unknown"}
    return {"weights": str(known.hf_hub_id or f"timm/{name}"), "licence": str(known.license or "unknown")}


def _file_name(text: str) -> str:
    """An address of a hub, or the last part of another or of a path: folders tell of people, queries hold keys."""
    if text.startswith("hf://"):
        return printable(text)
    return printable(PureWindowsPath(re.split("[?#]", text)[0] if is_address(text) else text).name)


def _picture(module: SegmentationModule, image: np.ndarray) -> bytes:
    """PNG of an image, what the net says of it, and the classes."""
    with torch.inference_mode():
        label = module.predict_label(torch.from_numpy(image).permute(2, 0, 1)[None])[0].numpy()
    space = module.label_space
    shown = pictures.overlay(image, label, space.palette)
    scenes = pictures.row({"image": pictures.reduced(image, _SHOWN), "classes": pictures.reduced(shown, _SHOWN)})
    picture = pictures.stack_rows([scenes, pictures.legend(space.names, space.colors, scenes.shape[1])])
    return cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()


def _write(files: Mapping[str, bytes], out: Path) -> None:
    if out.is_dir():
        for name, content in files.items():
            (out / name).write_bytes(content)
        return
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, _WHEN)
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content)


def _compare(module: SegmentationModule, bundled: SegmentationModule, image: np.ndarray) -> None:
    batch = torch.from_numpy(pictures.reduced(image, _SIDE)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        first, second = (each.scores(batch) for each in (module, bundled))
    if not torch.equal(first, second):
        raise UserError(
            f"the bundle gives other scores than the checkpoint (by up to {float((first - second).abs().max()):.3g}),"
            " and was deleted; please report this with the checkpoint's config"
        )
