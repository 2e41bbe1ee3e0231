"""COCO-Stuff, 80 things and 91 stuff classes: the 164k maps of COCO 2017 and the earlier 10k set.

Caesar, Uijlings, Ferrari: COCO-Stuff: Thing and Stuff Classes in Context, CVPR 2018. Official ids run from 1 to 182, of
which eleven occur in no image, so that 171 classes remain. The PNG maps of 164k hold the id minus one (0 is person) and
255 where nothing is labelled; the ``.mat`` files of 10k hold the id itself (1 is person) and 0 where nothing is.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import UserError
from ..label_space import IGNORE_INDEX, LabelSpace
from ..source import FileSource
from .class_tables import class_table
from .mat_labels import with_png_labels
from .pair_by_stem import check_folder, check_split, pair_by_stem, read_stems

__all__ = ["coco_stuff", "coco_stuff_10k"]

_FOLDERS = {"train": "train2017", "val": "val2017"}
_REMEDY = (
    "unpack train2017.zip and val2017.zip (images.cocodataset.org/zips) into data.root/images and"
    " stuffthingmaps_trainval2017.zip (calvin.inf.ed.ac.uk) into data.root/annotations, completely"
)
_LISTS = ("train", "test", "all")
_REMEDY_10K = (
    "unpack cocostuff-10k-v1.1.zip (calvin.inf.ed.ac.uk) completely into data.root, which then holds images,"
    " annotations and imageLists"
)


def coco_stuff(*, root: str | Path, split: str) -> FileSource:
    """COCO-Stuff 164k: ``images/<folder>/<id>.jpg`` with ``annotations/<folder>/<id>.png``.

    Args:
        root: folder that holds ``images`` and ``annotations``, each with ``train2017`` and ``val2017``.
        split: ``train`` (118287 images) or ``val`` (5000); labels of the test images are not public.

    Returns:
        The pairs sorted by name. A value that never occurs in the published maps is an error when it is read, since
        it tells of labels that count otherwise.

    Raises:
        UserError: for an unknown split, a missing folder, or an image without its label.
    """
    check_split("COCO-Stuff", split, _FOLDERS)
    root, folder = Path(root).expanduser(), _FOLDERS[split]
    if (root / folder).is_dir() and not (root / "images").is_dir():
        raise UserError(f"{(root / folder).resolve()}: images and label maps unpack to folders of this name; {_REMEDY}")
    check_folder(root, _REMEDY)
    pairs = pair_by_stem(root / "images" / folder, root / "annotations" / folder, remedy=_REMEDY)
    return FileSource(pairs, class_table("coco_stuff").label_space)


def coco_stuff_10k(*, root: str | Path, split: str) -> FileSource:
    """COCO-Stuff 10k v1.1: ``images/<stem>.jpg`` with ``annotations/<stem>.mat``, listed in ``imageLists``.

    The first call copies the labels of the split to ``annotations_png``, a few milliseconds each.

    Args:
        root: folder that holds ``images``, ``annotations`` and ``imageLists``.
        split: ``train`` (9000 images), ``test`` (1000), on which results are reported, or ``all``.

    Returns:
        The pairs in the order of the list.

    Raises:
        UserError: for an unknown split, a missing list or folder, a listed image or label that is not there, or a
            label that cannot be read or copied.
    """
    check_split("COCO-Stuff 10k", split, _LISTS)
    root = Path(root).expanduser()
    check_folder(root, _REMEDY_10K)
    stems = read_stems(root / "imageLists" / f"{split}.txt", _REMEDY_10K)
    pairs = pair_by_stem(root / "images", root / "annotations", stems=stems, label_suffix=".mat", remedy=_REMEDY_10K)
    pairs = with_png_labels(pairs, root / "annotations_png", variable="S")
    table = class_table("coco_stuff")
    values = {value + 1: train_id for value, train_id in table.values.items() if train_id != IGNORE_INDEX}
    return FileSource(pairs, LabelSpace(table.names, table.colors, file_values=values | {0: IGNORE_INDEX}))
