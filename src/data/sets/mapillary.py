"""Mapillary Vistas v1.2 (65 scored classes) and v2.0 (116).

Neuhold, Ollmann, Rota Bulo, Kontschieder: The Mapillary Vistas Dataset for Semantic Understanding of Street Scenes,
ICCV 2017. A label is a palette PNG whose indices are positions in the list of the official config file; classes that
the config does not evaluate are ignored, the others keep their order. In v2.0 many classes share a colour, so pictures
painted with the palette cannot be turned back into labels.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from ...errors import UserError
from ..label_space import IGNORE_INDEX
from ..source import FileSource
from .class_tables import ClassTable, class_table
from .pair_by_stem import check_folder, check_split, pair_by_stem

__all__ = ["mapillary"]

_FOLDERS = {"train": "training", "val": "validation", "test": "testing"}
_TABLES = {"1.2": "mapillary_v1_2", "2.0": "mapillary_v2_0"}
_OPTIONS = {"1.2": "data=mapillary", "2.0": "data=mapillary_v2"}
_REMEDY = (
    "unpack the archive from mapillary.com/dataset/vistas completely and set data.root to the folder that holds"
    " training, validation and testing"
)


def mapillary(*, root: str | Path, split: str, version: Literal["1.2", "2.0"] = "1.2") -> FileSource:
    """Mapillary Vistas: ``<folder>/images/<key>.jpg`` with ``<folder>/v<version>/labels/<key>.png``.

    Args:
        root: folder that holds ``training``, ``validation`` and ``testing``; labels of v1.2 may also lie in
            ``<folder>/labels``, as its first archive has them.
        split: ``train`` (18000 images), ``val`` (2000), or ``test`` (5000), which comes without labels.
        version: ``"1.2"`` or ``"2.0"``; the archive of v2.0 holds the labels of both.

    Returns:
        The pairs sorted by name; names are the keys.

    Raises:
        UserError: for an unknown split or version, a missing folder, labels of the other version only, a config file
            of other classes, or an image without its label.
    """
    number = str(version)  # YAML reads 2.0 as a number
    if number not in _TABLES:
        raise UserError(
            f"data.dataset.version={version} is not a version of Mapillary Vistas; use {' or '.join(_TABLES)}"
        )
    check_split("Mapillary Vistas", split, _FOLDERS)
    root = Path(root).expanduser()
    folder = root / _FOLDERS[split]
    check_folder(folder, f"{_REMEDY} (it needs registration)")
    table = class_table(_TABLES[number])
    _check_config(root, number, table)
    labels = None if split == "test" else _label_folder(folder, number)
    pairs = pair_by_stem(folder / "images", labels, remedy=_REMEDY)
    return FileSource(pairs, table.label_space)


def _label_folder(folder: Path, version: str) -> Path:
    first = folder / "labels"  # v1.2 before there was a v2.0
    places = {"1.2": [folder / "v1.2/labels", first], "2.0": [folder / "v2.0/labels"]}
    for place in places[version]:
        if place.is_dir():
            return place
    for other, candidates in places.items():
        if other != version and any(place.is_dir() for place in candidates):
            raise UserError(
                f"{folder.resolve()}: holds labels of Mapillary Vistas v{other} only; use {_OPTIONS[other]}, or unpack"
                f" the archive of v2.0, which has v{version} too, into data.root"
            )
    raise UserError(f"{places[version][0].resolve()}: folder not found; {_REMEDY}")


def _check_config(root: Path, version: str, table: ClassTable) -> None:
    """What the official config evaluates, where it lies beside the images, must be what the table scores."""
    names = [f"config_v{version}.json"]
    if version == "1.2":
        names.append("config.json")
    path = next((root / name for name in names if (root / name).is_file()), None)
    if path is None:
        return
    try:
        scored = [bool(label["evaluate"]) for label in json.loads(path.read_text(encoding="utf-8"))["labels"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path.resolve()}: not readable as a Mapillary config ({error!r}); unpack it again") from error
    expected = [table.values[value] != IGNORE_INDEX for value in sorted(table.values)]
    if len(scored) != len(expected):
        raise UserError(
            f"{path.resolve()}: lists {len(scored)} classes where Mapillary Vistas v{version} has {len(expected)};"
            f" choose {' or '.join(_OPTIONS.values())}, or unpack the published archive again"
        )
    if scored != expected:
        position = next(i for i, pair in enumerate(zip(scored, expected, strict=True)) if pair[0] != pair[1])
        raise UserError(
            f"{path.resolve()}: evaluates other classes than the published v{version} (the first is number {position});"
            " restore the file of the archive, or read your own choice of classes with data=folder"
        )
