"""Images of ordinary size: decoding, net and writing at the same time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..data.decoding import read_image
from ..errors import UserError
from ..files.images import AHEAD, read_ahead
from ..reports.pictures import save_png
from ..runtime.bars import tqdm
from .output_folder import OutputFolder, image_key
from .output_record import writing
from .outputs import Label, Maps, Pictures, Task

__all__ = ["segment_images"]

Read = tuple[Path, np.ndarray | UserError]
Labelled = tuple[Path, np.ndarray, np.ndarray, np.ndarray | None]


def segment_images(names: Mapping[Path, Path], task: Task, folder: OutputFolder) -> list[str]:
    """Writes every picture of every image; areas follow in the order of the images.

    Args:
        names: image file -> name of its pictures.
        task: what to do with each; only neighbours of one size share a batch.
        folder: where pictures go.

    Returns:
        A line for each image that could not be read or segmented.

    Raises:
        UserError: if a picture cannot be written.
    """
    pictures = task.pictures
    broken: list[str] = []
    pending: deque[tuple[Path, Future[np.ndarray]]] = deque()

    def finish() -> None:
        path, job = pending.popleft()
        pixels = job.result()
        if task.areas is not None:
            task.areas.add(image_key(names[path]), pixels)
        folder.finish(names[path])

    with ThreadPoolExecutor(2) as reader, ThreadPoolExecutor(2) as writer:
        images = tqdm(read_ahead(reader, read_image, names), total=len(names), unit="image", disable=None)
        for batch in _batches(images, task.batch_size, broken):
            for path, image, classes, confidence in _labelled(batch, task.label, broken):
                maps = pictures.attention(image) if pictures.attention else None
                files = folder.files(names[path], pictures.kinds)
                job = writer.submit(_write, files, image, classes, confidence, pictures, maps)
                pending.append((path, job))
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
    """Each image with its label and confidence; a batch that the net refuses is given to it again image by image."""
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
    maps: Maps | None,
) -> np.ndarray:
    """Writes the pictures of one image; returns the pixels of each class."""
    made = pictures.make(image, label, confidence)
    if maps is not None:
        made["attention"] = pictures.attention_figure(image, label, maps, name=files["attention"].name)
    for kind, picture in made.items():
        with writing(files[kind]):
            save_png(files[kind], picture)
    return pictures.areas(label)
