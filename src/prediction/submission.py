"""Files for the Cityscapes test server: one PNG of label ids per image, all of them in one archive."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..data import Source
from ..data.decoding import read_label
from ..data.sets.cityscapes import TRAIN_ID_TO_RAW_ID, label_space
from ..data.source import FileSource
from ..errors import UserError
from ..files.atomic import whole_file
from ..files.images import read_ahead
from ..reports.pictures import save_png
from ..runtime.bars import tqdm
from .output_record import OutputRecord, writing
from .outputs import Label

__all__ = ["Submission", "check_classes", "check_images"]

_PNG_END = b"IEND\xaeB`\x82"


def check_classes(names: Sequence[str], ckpt: object) -> None:
    """Refuses classes that are not those of the server.

    Raises:
        UserError: naming the checkpoint, and a class that the server does not know.
    """
    wanted = label_space().names
    if tuple(names) != tuple(wanted):
        odd = next((name for name in names if name not in wanted), None)
        raise UserError(
            f"{ckpt} was trained on {len(names)} classes{f', among them {odd!r}' if odd else ''}; the server scores"
            f" the {len(wanted)} of Cityscapes in their order ({', '.join(wanted[:3])}, ...); train on data=cityscapes"
        )


def check_images(source: Source, *, split: str, root: object, count: int | None, size: tuple[int, int] | None) -> None:
    """Refuses images that the server would not accept labels of.

    Args:
        source: the images.
        split, root: where they are, for the error.
        count: how many the server wants; ``None`` for any number.
        size: width and height that the server wants; ``None`` for any.

    Raises:
        UserError: for another number or size, or a name that is not as in Cityscapes.
    """
    names = [source.name(index) for index in range(len(source))]
    if count is not None and len(names) != count:
        raise UserError(
            f"split={split} has {len(names)} images in {root} and the server wants {count}; unpack"
            " leftImg8bit_trainvaltest.zip completely, or set images=null for a part of them"
        )
    for name in names:
        if not re.fullmatch(r"[^_/]+_\d{6}_\d{6}", name):
            raise UserError(f"{name}: is not named <city>_<sequence>_<frame> as in Cityscapes; set data=cityscapes")
    if size is None:
        return
    for index, name in enumerate(names):
        height, width = source.size(index)
        if (width, height) != size:
            raise UserError(
                f"{name}: is {width}x{height} and the server wants {size[0]}x{size[1]} (width x height); use the images"
                " as they were downloaded, or set size=null"
            )


class Submission:
    """The label files of a split: written where they are missing, checked, packed.

    Args:
        source: the images.
        record: of the folder that the label files lie in.
    """

    def __init__(self, source: Source, record: OutputRecord) -> None:
        self._source, self._record = source, record
        self._label_ids = np.zeros(256, np.uint8)  # of each train id
        self._label_ids[: len(TRAIN_ID_TO_RAW_ID)] = TRAIN_ID_TO_RAW_ID
        self.paths = [record.folder / f"{source.name(index)}_pred_labelIds.png" for index in range(len(source))]

    def predict_missing(self, label: Label) -> int:
        """Writes every label file that is missing or older than its image; returns how many were there."""
        missing = [index for index in range(len(self.paths)) if not self._is_there(index)]
        with ThreadPoolExecutor(2) as pool:
            images = read_ahead(pool, lambda index: self._source.read(index)[0], missing)
            for index, image in tqdm(images, total=len(missing), unit="image", disable=None):
                if isinstance(image, UserError):
                    raise image
                path, train_ids = self.paths[index], label(image[None])[0][0]
                with writing(path):
                    save_png(path, self._label_ids[train_ids])
                if self._image(index) is not None:
                    self._record.add(path.name)
        return len(self.paths) - len(missing)

    def _is_there(self, index: int) -> bool:
        path, image = self.paths[index], self._image(index)
        made = image is None or self._record.is_made_from(path.name, image, [path])
        return made and self._fault(index) is None

    def _image(self, index: int) -> Path | None:
        """The file of an image; ``None`` where it has none of its own, as in shards."""
        return self._source.pairs[index].image if isinstance(self._source, FileSource) else None

    def _fault(self, index: int) -> str | None:
        """What is wrong with a label file; ``None`` if nothing is."""
        path = self.paths[index]
        try:
            label = read_label(path)
        except UserError as error:
            return str(error)
        if not path.read_bytes().endswith(_PNG_END):  # a reader that needs no more pixels would not notice
            return f"{path}: is cut short"
        if label.shape != self._source.size(index):
            return f"{path}: is not of its image's size"
        if not np.isin(np.unique(label), TRAIN_ID_TO_RAW_ID).all():
            return f"{path}: holds values that are no label ids of scored classes"
        return None

    def check(self) -> None:
        """Reads every label file again.

        Raises:
            UserError: for the first one that is not as the server wants it, or belongs to no image.
        """
        spare = sorted(set(self._record.folder.rglob("*.png")) - set(self.paths))
        fault = f"{spare[0]}: belongs to no image of the split" if spare else None
        if fault is None:
            every = tqdm(range(len(self.paths)), desc="check", unit="image", disable=None)
            fault = next(filter(None, map(self._fault, every)), None)
        if fault:
            raise UserError(f"{fault}; nothing was packed: remove it and give the same command again")

    def pack(self, out: Path) -> None:
        """Writes one archive, the same bytes for the same files, which appears when it is whole."""
        with writing(out), whole_file(out) as partial, zipfile.ZipFile(partial, "w") as archive:
            for path in self.paths:
                archive.writestr(zipfile.ZipInfo(path.name), path.read_bytes())  # PNGs do not get smaller
