"""Sizes of all images of a source, from their headers, and what a training or a validation could not do with them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, NamedTuple

from pydantic import Field
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from tqdm import tqdm

from src.data.cache import fingerprint, load_json, store_json
from src.data.dataset import Source
from src.files.json_schema import Count

__all__ = ["Size", "image_sizes", "sizes_differ", "too_small"]

_KIND = "sizes-1"  # another number where the same headers would be read otherwise
_THREADS = 4  # they wait for the disk together; on a fast one a header costs some Python only
_CHUNK = 1024  # headers in flight


class Size(NamedTuple):
    """One size in pixels, how many images have it, and the name of the first."""

    height: int
    width: int
    count: int
    example: str


_Kept = Annotated[list[Count | str], Field(min_length=4, max_length=4)]  # a ``Size``, as JSON gives it


def image_sizes(source: Source) -> list[Size]:
    """Every size that occurs, from the headers of all images; remembered until a file changes.

    Raises:
        UserError: for a file that is missing or no image.
    """
    key = fingerprint(source)
    kept = load_json(_KIND, key, list[_Kept])
    if kept is not None:
        return [Size(*size) for size in kept]
    found: dict[tuple[int, int], list[int]] = {}  # size -> images of it, and the first
    bar = tqdm(desc="image sizes", total=len(source), unit="image", delay=1, leave=False, disable=_no_bar())
    with bar, ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(source), _CHUNK):
            chunk = range(start, min(start + _CHUNK, len(source)))
            for index, size in zip(chunk, pool.map(source.size, chunk, chunksize=64), strict=True):
                found.setdefault(tuple(size), [0, index])[0] += 1
            bar.update(len(chunk))
    sizes = [Size(*size, count, source.name(first)) for size, (count, first) in found.items()]
    store_json(_KIND, key, sizes)
    return sizes


def too_small(split: str, sizes: Sequence[Size], window: tuple[int, int]) -> str | None:
    """A sentence if some images are smaller than the largest ``window`` (height, width) that a crop may need."""
    small = [size for size in sizes if size.height < window[0] or size.width < window[1]]
    if not small:
        return None
    return (
        f"crops need up to {window[1]}x{window[0]} pixels, but {sum(size.count for size in small)} of"
        f" {sum(size.count for size in sizes)} images of {split} are smaller ({small[0].example} is"
        f" {small[0].width}x{small[0].height}, width x height); set transforms.pad=true, lower transforms.crop_size or"
        " raise transforms.scale"
    )


def sizes_differ(split: str, sizes: Sequence[Size], eval_batch_size: int) -> str | None:
    """A sentence if images of several sizes would have to be scored in one batch."""
    if eval_batch_size == 1 or len(sizes) < 2:
        return None
    some = sorted(sizes, key=lambda size: -size.count)[:3]
    few = ", ".join(f"{size.width}x{size.height}" for size in some) + (", ..." if len(sizes) > 3 else "")
    return (
        f"data.eval_batch_size={eval_batch_size} puts images of {split} together, but their sizes differ ({few}); set"
        " data.eval_batch_size=1"
    )


def _no_bar() -> bool | None:
    """``None``: a bar where there is a terminal."""
    return None if rank_zero_only.rank == 0 else True
