"""ADE20K with the 150 classes of the scene parsing benchmark.

Zhou, Zhao, Puig, Fidler, Barriuso, Torralba: Scene Parsing through ADE20K Dataset, CVPR 2017. Files hold 0 for
everything else, which is ignored, and the classes from 1; a result for the test server counts from 1 again. The full
ADE20K of thousands of classes is another archive with another layout.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import UserError
from ..source import FileSource
from .class_tables import class_table
from .pair_by_stem import check_folder, check_split, pair_by_stem

__all__ = ["ade20k"]

_FOLDERS = {"train": "training", "val": "validation", "test": "testing"}
_ARCHIVE = "ADEChallengeData2016"
_REMEDY = (
    "download ADEChallengeData2016.zip from data.csail.mit.edu/places/ADEchallenge, unpack it into data.root completely"
)
_TEST_REMEDY = "download release_test.zip from data.csail.mit.edu/places/ADEchallenge and unpack it into data.root"


def ade20k(*, root: str | Path, split: str) -> FileSource:
    """ADE20K-150: ``images/<folder>/<name>.jpg`` with ``annotations/<folder>/<name>.png``.

    Args:
        root: folder that holds ``ADEChallengeData2016`` and, for ``test``, ``release_test``; or the former itself.
        split: ``train`` (20210 images), ``val`` (2000), or ``test`` (3352), which comes without labels.

    Returns:
        The pairs sorted by name; stored 0 reads as 255.

    Raises:
        UserError: for an unknown split, the full ADE20K, a missing folder, or an image without its label.
    """
    check_split("ADE20K", split, _FOLDERS)
    root = Path(root).expanduser()
    space = class_table("ade20k").label_space
    if split == "test":
        return FileSource(pair_by_stem(_test_folder(root), None, remedy=_TEST_REMEDY), space)
    base = root if (root / "images").is_dir() else root / _ARCHIVE
    if not (base / "annotations").is_dir() and _is_full(root):
        raise UserError(
            f"{root.resolve()}: holds the full ADE20K (*_seg.png, thousands of classes), not the benchmark of 150"
            f" classes; {_REMEDY}"
        )
    check_folder(base, _REMEDY)
    folder = _FOLDERS[split]
    return FileSource(pair_by_stem(base / "images" / folder, base / "annotations" / folder, remedy=_REMEDY), space)


def _test_folder(root: Path) -> Path:
    places = [root / "release_test/testing", root.parent / "release_test/testing"]
    return places[1] if root.name == _ARCHIVE and places[1].is_dir() else places[0]


def _is_full(root: Path) -> bool:
    """Whether this is a release of the full set (ADE20K_2016_07_26, ADE20K_2021_17_01), or the folder above it."""
    releases = [root, *root.glob("ADE20K_20*")]
    layouts = ("images/training/*/*/*_seg.png", "images/ADE/training/*/*/*_seg.png")
    return any(next(release.glob(layout), None) for release in releases for layout in layouts)
