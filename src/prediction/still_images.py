"""Images of ordinary size: decoding, net and writing at the same time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from src.data.decoding import read_image
from src.errors import UserError
from src.files.images import AHEAD, read_ahead
from src.prediction.output_folder import OutputFolder, image_key
from src.prediction.output_record import writing
from src.prediction.rendered import Label, Pictures, attention_figure
from src.reports.pictures import save_png

if TYPE_CHECKING:
    from src.prediction.areas import Areas

__all__ = ["segment_images"]

Read = tuple[Path, "np.ndarray | UserError"]
Labelled = tuple[Path, np.ndarray, np.ndarray, "np.ndarray | None"]


def segment_images(
    names: Mapping[Path, Path],
    label: Label,
    pictures: Pictures,
    *,
    folder: OutputFolder,
    batch_size: int,
    areas: Areas | None,
) -> list[str]:
    """Writes every picture of every image; areas follow in the order of the images.

    Args:
        names: image file -> name of its pictures.
        label: the net.
        pictures: what to write.
        folder: where.
        batch_size: images of one size, one after another, that ``label`` gets together at most.
        areas: where pixels of classes are noted, if at all.

    Returns:
        A line for each image that could not be read or segmented.

    Raises:
        UserError: if a picture cannot be written.
    """
    broken: list[str] = []
    pending: deque[tuple[Path, Future[np.ndarray]]] = deque()

    def finish() -> None:
        path, job = pending.popleft()
        pixels = job.result()
        if areas is not None:
            areas.add(image_key(names[path]), pixels)
        folder.finish(names[path])

    with ThreadPoolExecutor(2) as reader, ThreadPoolExecutor(2) as writer:
        images = tqdm(read_ahead(reader, read_image, names), total=len(names), unit="image", disable=None)
        for batch in _batches(images, batch_size, broken):
            for path, image, *result in _labelled(batch, label, broken):
                maps = pictures.attention(image) if pictures.attention else None
                files = folder.files(names[path], pictures.kinds)
                pending.append((path, writer.submit(_write, files, image, *result, pictures, maps)))
                if len(pending) > AHEAD:
                    finish()
        while pending:
            finish()
    return broken


def _batches(images: Iterable[Read], size: int, broken: list[str]) -> Iterator[list[tuple[Path, np.ndarray]]]:
    """Neighbours of one size; unreadable files go to ``broken``."""
    batch: list[tuple[Path, np.ndarray]] = []
    for path, image in images:
        if isinstance(image, UserError):
            broken.append(str(image))
            continue
        if batch and (len(batch) == size or batch[0][1].shape != image.shape):
            yield batch
            batch = []
        batch.append((path, image))
    if batch:
        yield batch


def _labelled(batch: list[tuple[Path, np.ndarray]], label: Label, broken: list[str]) -> Iterator[Labelled]:
    """Each image with its label and confidence; of a batch that is refused, those that are not alone."""
    try:
        labels, confidences = label(np.stack([image for _, image in batch]))
    except UserError as error:
        if len(batch) == 1:
            broken.append(f"{batch[0][0]}: {error}")
        else:
            for each in batch:
                yield from _labelled([each], label, broken)
        return
    for index, (path, image) in enumerate(batch):
        yield path, image, labels[index], None if confidences is None else confidences[index]


def _write(
    files: Mapping[str, Path],
    image: np.ndarray,
    label: np.ndarray,
    confidence: np.ndarray | None,
    pictures: Pictures,
    maps: tuple[np.ndarray, np.ndarray] | None,
) -> np.ndarray:
    """Writes the pictures of one image; returns the pixels of each class."""
    made = dict(pictures.make(image, label, confidence))
    if maps is not None:
        name = files["attention"].name
        made["attention"] = attention_figure(image, label, maps, pictures.scales, pictures.classes, name=name)
    for kind, picture in made.items():
        with writing(files[kind]):
            save_png(files[kind], picture)
    return pictures.areas(label)
