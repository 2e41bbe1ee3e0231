"""What is known of a data set without its files: the classes, and what a complete download holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import UserError
from ..folder.classes import build_label_space, read_classes
from ..label_space import LabelSpace
from . import cityscapes, pascal_context
from .class_tables import class_table

__all__ = ["archives", "count_finding", "known_classes"]

_TABLES = {"ade20k": "ade20k", "coco_stuff": "coco_stuff", "coco_stuff_10k": "coco_stuff", "voc": "voc2012"}


def known_classes(dataset: Mapping[str, Any]) -> LabelSpace | None:
    """The label space of a data set that is a published one, or whose classes are listed; ``None`` for others.

    Args:
        dataset: ``_target_`` and options as in ``conf/data``.

    Raises:
        UserError: for own folders without a class list.
    """
    *_, module, name = str(dataset["_target_"]).split(".")
    if module.startswith("cityscapes"):
        return cityscapes.label_space()
    if name == "pascal_context":
        return pascal_context.label_space(with_background=dataset["classes"] == 60)
    if name == "folder":
        return _own(dataset)
    tables = {**_TABLES, "mapillary": f"mapillary_v{dataset.get('version')}".replace(".", "_")}
    if name not in tables:
        return None
    return class_table(tables[name]).label_space


def _own(dataset: Mapping[str, Any]) -> LabelSpace:
    root = dataset["root"]
    roots = [Path(each).expanduser() for each in ([root] if isinstance(root, str) else root)]
    classes = dataset["classes"] or read_classes(roots)
    if not classes:
        raise UserError(
            f"{roots[0]}: holds no classes.txt; give the names in the order of the net's outputs:"
            " 'data.classes=[road,car,...]'"
        )
    return build_label_space(roots, [], classes, "index", None, None)


def count_finding(release: Mapping[str, Any] | None, split: str, count: int) -> str | None:
    """A sentence if ``count`` images are not what a release holds; ``None`` where it is silent about the split.

    ``release["images"][split]`` is a number, or several where conversions in use differ.
    """
    official = ((release or {}).get("images") or {}).get(split)
    counts = [official] if isinstance(official, int) else list(official or [])
    if not counts or count in counts:
        return None
    published = " or ".join(map(str, counts))
    if count < max(counts):
        return (
            f"{split} holds {count} of {published} images; unless a part of them is meant, unpack its archives"
            " completely into data.root"
        )
    return f"{split} holds {count} images where the published set has {published}; remove what does not belong to it"


def archives(release: Mapping[str, Any] | None) -> list[str]:
    """A line for each archive: its name, where to download it and where it goes."""
    return [f"{name}: {where}" for name, where in ((release or {}).get("archives") or {}).items()]
