"""Which samples make up an epoch: all, a mixture of two pools, every class equally often, or a few shards at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from pytorch_lightning.utilities.rank_zero import rank_zero_warn

from ...errors import UserError, nearest
from ...schema.faults import checked
from ...schema.types import Count, Names, NotNegative, Share, Text, Whole
from ..shards.source import ShardSource
from ..source import Source
from .class_index import ClassIndex, class_index

__all__ = ["ClassUniform", "Draw", "Shuffle", "ShuffleShards"]

Draw = Callable[[np.random.Generator, int], np.ndarray]
"""(generator, epoch counted from 0) -> (n,3) int32: image, and row and column of a point to show, both -1 for none."""


class Shuffle:
    """Every image once an epoch, in random order; or a fixed share of the epoch from a second pool.

    Args:
        extra: further splits that make up the second pool, such as automatically labelled ones. An epoch keeps the
            length of the first.
        extra_share: of an epoch, drawn from the second pool. Both pools are shuffled and taken from the front.

    Raises:
        UserError: for a share outside 0..1.
    """

    @checked("sampler")
    def __init__(self, *, extra: Text | Sequence[Text] | None = (), extra_share: Share = 0.5) -> None:
        self.extra = _listed(extra)
        self.extra_share = extra_share

    def draws(self, source: Source, first: int) -> Draw:
        """How epochs over ``source`` are drawn, whose first pool is its ``first`` samples and the rest the second."""
        images = _whole_images(len(source))

        def draw(generator: np.random.Generator, epoch: int) -> np.ndarray:
            if first == len(images):
                return images[generator.permutation(first)]
            # Shuffled again, since ``_pick`` puts the second pool behind the first.
            return generator.permutation(self._pick(generator, images, first, first))

        return draw

    def _pick(self, generator: np.random.Generator, points: np.ndarray, first: int, count: int) -> np.ndarray:
        """``count`` of ``points``, which are ordered by image: a share of the second pool, unless one pool is empty."""
        border = int(np.searchsorted(points[:, 0], first))  # a class may occur in one pool only
        share = self.extra_share if border else 1.0
        second = round(share * count) if border < len(points) else 0
        # ``np.resize`` repeats a shuffled pool that is smaller than its part, so that its images come equally often.
        taken = [
            pool[np.resize(generator.permutation(len(pool)), number)]
            for pool, number in ((points[:border], count - second), (points[border:], second))
        ]
        return np.concatenate(taken)


class ClassUniform(Shuffle):
    """A share of each epoch shows every class equally often, in crops around where it occurs; the rest is ``Shuffle``.

    Tao et al. 2020 (arXiv 2005.10821), released code: of n crops an epoch, int(n * fraction / K) contain a centre of
    mass of each of the K classes (``src.data.sampling.class_index``), drawn in each epoch by shuffling the class's
    points and starting again where they run out. Here K counts only the classes that occur, so that their share is
    spent.

    Args:
        fraction: of an epoch, drawn by class.
        tile: side in pixels of the squares of which each gives a class one point.
        bias: class name -> factor on its number of crops; classes not named have 1. ``None``: all have 1.
        last_epoch: the last epoch, counted from 1, that is drawn by class; later ones are ``Shuffle``. ``None``: all.
        extra, extra_share: see ``Shuffle``; they hold for each class and for the rest alike.
        extra_classes: names of the classes whose points may come from the second pool; ``None``: all.

    Raises:
        UserError: for values that cannot be; on drawing for unknown class names, for labels without any class, and if
            the factors ask for more than an epoch.
    """

    @checked("sampler")
    def __init__(
        self,
        *,
        fraction: Share = 0.5,
        tile: Count = 1024,
        bias: Mapping[str, NotNegative] | None = None,
        last_epoch: Whole | None = None,
        extra: Text | Sequence[Text] | None = (),
        extra_share: Share = 0.5,
        extra_classes: Names | None = None,
    ) -> None:
        super().__init__(extra=extra, extra_share=extra_share)
        self.fraction = fraction
        self.tile = tile
        self.bias = dict(bias or {})
        self.last_epoch = last_epoch
        self.extra_classes = None if extra_classes is None else _listed(extra_classes)

    def draws(self, source: Source, first: int) -> Draw:
        names = source.label_space.names
        _check_names("bias", self.bias, names)
        _check_names("extra_classes", self.extra_classes or (), names)
        plain, images = super().draws(source, first), _whole_images(len(source))
        classes = self._points(class_index(source, self.tile), names, first)
        counts = self._counts({name: len(points) for name, points in classes.items()}, first)
        rest = first - sum(counts.values())  # an epoch keeps its length, whatever is drawn by class

        def draw(generator: np.random.Generator, epoch: int) -> np.ndarray:
            if self.last_epoch is not None and epoch >= self.last_epoch:
                return plain(generator, epoch)
            taken = [self._pick(generator, classes[name], first, count) for name, count in counts.items()]
            # Shuffled as a whole, since the parts would otherwise give batches of one class each.
            return generator.permutation(np.concatenate([*taken, self._pick(generator, images, first, rest)]))

        return draw

    def _points(self, index: ClassIndex, names: Sequence[str], first: int) -> dict[str, np.ndarray]:
        """What each class may be drawn from."""
        points = {name: index.of(class_id) for class_id, name in enumerate(names)}
        if self.extra_classes is None:
            return points
        # Points are ordered by image, and those of the first pool come first: the second pool is the end of each array.
        return {
            name: own if name in self.extra_classes else own[: np.searchsorted(own[:, 0], first)]
            for name, own in points.items()
        }

    def _counts(self, points: Mapping[str, int], length: int) -> dict[str, int]:
        """Crops an epoch of each class that occurs."""
        present = [name for name, count in points.items() if count]
        absent = [name for name in points if name not in present]
        if not present:
            raise UserError(
                "sampler=class_uniform finds no class in any label; check data.root, or use sampler=shuffle"
            )
        if absent:
            occur = "occurs" if len(absent) == 1 else "occur"
            rank_zero_warn(
                f"sampler=class_uniform: {', '.join(absent)} {occur} in no training label; the other"
                f" {len(present)} classes are drawn in place"
            )
        share = int(length * self.fraction / len(present))  # rounded down as in the released code; the rest is shuffled
        if self.fraction and not share:
            rank_zero_warn(
                f"sampler.fraction={self.fraction} of {length} images is less than one for each of {len(present)}"
                " classes, so nothing is drawn by class; raise it"
            )
        counts = {name: int(share * self.bias.get(name, 1)) for name in present}
        if sum(counts.values()) > length:
            raise UserError(
                f"sampler.bias and sampler.fraction={self.fraction} ask for {sum(counts.values())} crops by class in an"
                f" epoch of {length}; lower them"
            )
        return counts


class ShuffleShards(Shuffle):
    """Every image once an epoch: shards in random order, and images shuffled among ``window`` shards at a time.

    The window slides: half of it is read from the start, then one shard after the other joins and one is done with, so
    that they are fetched evenly. Like any sampler's, the order depends on seed and epoch alone, so that a run resumes
    exactly whatever its number of loading processes. All ranks read the same shards at about the same time.

    Args:
        window: shards that are read at a time; all: a full shuffle.

    Raises:
        UserError: for a window below 1; on drawing from other data than shards.
    """

    @checked("sampler")
    def __init__(self, *, window: Count = 16) -> None:
        super().__init__()
        self.window = window

    def draws(self, source: Source, first: int) -> Draw:
        ends = _ends(source)
        count = len(ends) - 1
        images = _whole_images(len(source))

        def draw(generator: np.random.Generator, epoch: int) -> np.ndarray:
            if self.window >= count:
                return generator.permutation(images)
            # Each image lies within half a window of its shard's place: sorted by it, a window slides over them.
            place = np.repeat(generator.permutation(count) + 0.5, np.diff(ends))  # of its shard in the epoch
            place += self.window * (generator.random(len(images)) - 0.5)
            place = count - np.abs(count - np.abs(place))  # what falls off at either end is folded back
            return images[np.argsort(place, kind="stable")]

        return draw


def _whole_images(count: int) -> np.ndarray:
    """(count,3) int32: every image, with no point."""
    images = np.full((count, 3), -1, np.int32)
    images[:, 0] = np.arange(count)
    return images


def _listed(names: str | Sequence[str] | None) -> list[str]:
    return [names] if isinstance(names, str) else list(names or ())


def _check_names(option: str, given: Sequence[str] | Mapping[str, float], names: Sequence[str]) -> None:
    for name in given:
        if name not in names:
            raise UserError(f"sampler.{option}: the data set has no class '{name}'.{nearest(str(name), names)}")


def _ends(source: Source) -> np.ndarray:
    """Where the shards of one or several sources in a row begin, and where the last ends."""
    ends = [np.zeros(1, np.int64)]
    for part in source.parts:
        if not isinstance(part, ShardSource):
            raise UserError("sampler=shuffle_shards orders shards only; use sampler=shuffle, or data=shards")
        ends.append(part.shard_ends + ends[-1][-1])
    return np.concatenate(ends)
