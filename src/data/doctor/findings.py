"""The findings of an audit in words: what is wrong, in which file, and which line of the configuration fixes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..label_space import IGNORE_INDEX
from .counts import Counts
from .image_facts import Files
from .sample_stats import Value

__all__ = ["notes", "problems", "spell"]

_MOSTLY = 0.5  # share of ignored pixels past which that is worth a word


def problems(found: Counts) -> list[str]:
    """What must be fixed before training, most urgent first."""
    if not found.total:
        return ["the data set holds no samples; check data.root and data.splits"]
    sentences = [f"{files}: {reason}" for reason, files in found.failures.items()]
    if found.unknown and not found.label_space.ignore_unknown:
        sentences.append(_off_by_one(found) or _unknown(found))
    elif found.nothing_to_learn:
        sentences.append(_nothing_to_learn(found))
    return sentences + found.images.problems()


def notes(found: Counts) -> list[str]:
    """What is odd but may be meant."""
    sentences = []
    absent = [name for i, name in enumerate(found.label_space.names) if not found.label_images[i]]
    if found.labelled and absent:
        sentences.append(
            f"{', '.join(absent)}: in none of {found.labelled} labels; check split and label map, or drop the class"
        )
    sentences += [sentence for sentence in (_mostly_ignored(found), _lossy(found)) if sentence]
    if found.void.count and not found.nothing_to_learn:
        sentences.append(f"{found.void}: holds ignored pixels only, nothing to learn or score; leave it out")
    sentences += found.images.notes()
    if found.blank.count:
        sentences.append(f"{found.blank}: its image is of one tone, such as all black; restore it or leave it out")
    if found.unknown and found.label_space.ignore_unknown:
        pixels = sum(files.pixels for files in found.unknown.values())
        example = next(iter(found.unknown.values()))
        sentences.append(
            f"{example}: {_values(found.unknown)} in no class, read as ignored ({found.percent(pixels)} of all label"
            " pixels)"
        )
    if found.sizes and not found.labelled:
        sentences.append("no sample has a label, so the split serves prediction only")
    if found.left_out:
        files = Files()
        for path in found.left_out:
            files.add(path)
        sentences.append(f"{files}: {len(found.left_out)} images without a mask are left out (data.unlabelled=skip)")
    if found.unmatched:
        files = Files()
        for path in found.unmatched:
            files.add(str(path))
        sentences.append(
            f"{files}: label without image; add the image, or set data.image_suffix and data.mask_suffix to pair them"
        )
    return sentences


def spell(value: Value | None) -> str:
    """A stored value as a table shows it; ``None`` stands for those past the bound."""
    return "others" if value is None else str(value)


def _mostly_ignored(found: Counts) -> str | None:
    space, total = found.label_space, int(found.pixels.sum())
    if found.nothing_to_learn or found.pixels[IGNORE_INDEX] <= _MOSTLY * total:
        return None
    values = [value for value, train_id in found.stored.items() if train_id == IGNORE_INDEX]
    stored = f" (stored as {', '.join(map(spell, sorted(values)))})" if values else ""
    text = (
        f"{found.percent(found.pixels[IGNORE_INDEX])} of all label pixels are ignored{stored}; fine for coarse labels"
    )
    if space.encoding == "color" or space.file_values is not None:
        return f"{text}, else give what is a class its own entry in the label map"
    more = {i: i for i in range(space.num_classes)} | {IGNORE_INDEX: space.num_classes}
    return f"{text}; if 255 is a class, name it last in data.classes and set {_values_line(more)}"


def _lossy(found: Counts) -> str | None:
    if found.unknown or not any(mode.endswith(" JPEG") for mode in found.modes):
        return None
    return f"{found.example}: label is stored as JPEG, which invents values along edges; export the masks again as PNG"


def _off_by_one(found: Counts) -> str | None:
    space = found.label_space
    count = space.num_classes
    if space.encoding != "index" or space.file_values is not None or set(found.unknown) != {count}:
        return None
    shifted = {i + 1: i for i in range(count)} | ({255: 255} if IGNORE_INDEX in found.stored else {})
    if 0 not in found.stored:
        return (
            f"{found.unknown[count]}: label value {count} occurs and 0 never does, so the labels of {count} classes"
            f" count from one; set {_values_line(shifted)}"
        )
    last = {i: i for i in [*range(count), IGNORE_INDEX]} | {count: IGNORE_INDEX}
    return (
        f"{found.unknown[count]}: label value {count} occurs, but {count} classes are 0..{count - 1}; if 0 is"
        f" unlabelled set {_values_line({0: IGNORE_INDEX} | shifted)}, if {count} is unlabelled {_values_line(last)},"
        " else add the missing class to data.classes"
    )


def _unknown(found: Counts) -> str:
    space, example = found.label_space, next(iter(found.unknown.values()))
    pixels = sum(files.pixels for files in found.unknown.values())
    text = f"{example}: {_values(found.unknown)} ({found.percent(pixels)} of all label pixels) in no class"
    if example.first[0].lower().endswith((".jpg", ".jpeg")):
        return f"{text}; JPEG invents values along edges: export the masks again as PNG"
    if len(found.unknown) > 16:
        return f"{text}; so many point to an instance or depth map, or to smoothed masks: export class masks as PNG"
    if space.encoding == "color":
        table = space.file_colors or {}
        ignored = [color for color, train_id in table.items() if train_id == IGNORE_INDEX and any(color)]
        new = [color for color in found.unknown if isinstance(color, tuple)]
        colors = ",".join(_listed(color) for color in [*ignored, *new])
        return (
            f"{text}; add a class with '++data.classes={{name:{_listed(new[0])}}}', or ignore with"
            f" '++data.file_colors={{ignore:[{colors}]}}', or list there under the name of a class"
        )
    ignore = dict.fromkeys(sorted(value for value in found.unknown if isinstance(value, int)), IGNORE_INDEX)
    if space.file_values is not None:
        line = _values_line(ignore).replace("data.", "++data.", 1)  # joins the map that is set
        return f"{text}; with data=folder ignore by {line}, with a published set restore its own label files"
    line = _values_line({i: i for i in [*range(space.num_classes), IGNORE_INDEX]} | ignore)
    return f"{text}; ignore with {line}, where a class id in place of {IGNORE_INDEX} makes it that class"


def _nothing_to_learn(found: Counts) -> str:
    classes = found.pixels[:IGNORE_INDEX].nonzero()[0]
    if not len(classes):
        return (
            f"{found.void}: every pixel of all {found.labelled} labels is ignored, so nothing is left to learn; map the"
            f" stored values to classes in data.file_values (stored: {_values(found.stored)})"
        )
    value, space = int(classes[0]), found.label_space
    other = 0 if value else 1
    more = "" if space.num_classes > 1 else f" and 'data.classes=[{space.names[0]},name1]'"
    return (
        f"{found.example}: like all {found.labelled} labels it holds no values but {value} and 255, and 255 means"
        f" ignore, so nothing is left to learn; if 255 is a class set {_values_line({value: value, 255: other})}{more},"
        f" if it is to be ignored set {_values_line({value: value, 255: 255})}"
    )


def _listed(color: tuple[int, int, int]) -> str:
    return f"[{','.join(map(str, color))}]"


def _values_line(values: Mapping[int, int]) -> str:
    """An override in quotes, since shells expand braces."""
    return "'data.file_values={" + ",".join(f"{stored}:{train_id}" for stored, train_id in values.items()) + "}'"


def _values(values: Iterable[Value | None]) -> str:
    spelled = [spell(value) for value in values]
    kind = "colour" if spelled[0].startswith("(") else "label value"
    return f"{kind} {', '.join(spelled[:8])}" + (f" and {len(spelled) - 8} more" if len(spelled) > 8 else "")
