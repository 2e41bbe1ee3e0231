"""Videos and cameras: decoding, net and encoding at the same time, each timed."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..files.images import AHEAD, read_ahead
from ..runtime.bars import tqdm
from .outputs import Task
from .video_files import Capture, Videos

__all__ = ["segment_video"]


def segment_video(
    source: Path | int,
    files: Mapping[str, Path],
    task: Task,
    *,
    frames: int | None,
    key: str,
) -> tuple[int, str]:
    """Writes a video for each kind of picture; Ctrl-C ends a camera's as if ``frames`` were reached.

    Args:
        source: file, or number of a camera.
        files: kind of picture -> ``.mp4`` file, which appears when it is whole; odd sides lose their last pixel.
        task: what to do with each frame.
        frames: how many at most.
        key: name of the video where areas are noted, as ``<key>/<frame>``, frames from 0.

    Returns:
        Number of frames, and a line with frames per second and the milliseconds of each part.

    Raises:
        UserError: if nothing can be read, or a file cannot be written or lacks frames when it is read back.
    """
    clock = _Clock()
    name = f"camera{source}" if isinstance(source, int) else source.name
    done = 0
    with Capture(source) as capture, Videos(files, capture.rate) as videos:

        def encode(number: int, image: np.ndarray, result: np.ndarray) -> None:
            with clock("encoding"):
                videos.write(task.pictures.make(image, result, None))
                if task.areas is not None:
                    task.areas.add(f"{key}/{number:06d}", task.pictures.areas(result))

        with ThreadPoolExecutor(1) as writer, closing(_batches(capture, clock, frames, task.batch_size)) as batches:
            pending: deque[Future[None]] = deque()
            try:
                for batch in batches:
                    with clock("net"):
                        labels, _ = task.label(np.stack(batch))
                    for image, result in zip(batch, labels, strict=True):
                        pending.append(writer.submit(encode, done, image, result))
                        done += 1
                    while len(pending) > max(AHEAD, task.batch_size):
                        pending.popleft().result()
            except KeyboardInterrupt:
                if not capture.live:
                    raise
            for job in pending:
                job.result()
        if not done:
            raise UserError(f"source={source}: no frame can be decoded; check that the file plays")
    declared = f" (of {capture.length} declared)" if done < min(capture.length, frames or capture.length) else ""
    return done, f"{name}: {done} frames{declared} in {clock.line(done)}"


def _batches(capture: Capture, clock: _Clock, frames: int | None, size: int) -> Generator[list[np.ndarray], None, None]:
    """Frames in order, ``size`` together."""

    def read(_: int) -> np.ndarray | None:
        with clock("decoding"):
            return capture.read()

    batch: list[np.ndarray] = []
    numbers = count() if frames is None else range(frames)
    with (
        ThreadPoolExecutor(1) as reader,
        tqdm(total=frames or capture.length or None, unit="frame", disable=None) as bar,
    ):
        for _, frame in read_ahead(reader, read, numbers):
            if frame is None:
                break
            if isinstance(frame, UserError):
                raise frame
            batch.append(frame)
            bar.update()
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch


class _Clock:
    """Seconds since the start, and those spent in each part; a part runs in one thread."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._busy: defaultdict[str, float] = defaultdict(float)

    def line(self, done: int) -> str:
        """Frames per second, and milliseconds of each part, which run at the same time."""
        seconds = time.perf_counter() - self._start
        parts = (f"{part} {1000 * self._busy[part] / done:.1f} ms" for part in ("decoding", "net", "encoding"))
        return f"{seconds:.1f} s, {done / seconds:.1f} frames/s; a frame: {', '.join(parts)}"

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._busy[part] += time.perf_counter() - start
