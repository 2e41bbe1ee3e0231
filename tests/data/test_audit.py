"""The audit: what it counts, and which line it offers for each trap."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from src.data.doctor.audit import Audit, audit
from src.data.doctor.preflight import preflight
from src.data.folder.source import folder
from src.data.label_space import LabelSpace
from src.data.sets.camvid import camvid, camvid32
from src.data.source import FileSource, Pair, Source
from src.errors import UserError

RED, GREEN = (200, 0, 0), (0, 200, 0)


def write(root: Path, name: str, mask: Any, *, image: np.ndarray | None = None, suffix: str = ".png") -> None:
    mask = np.asarray(mask, np.uint8)
    for folder_name in ("images", "masks"):
        (root / folder_name).mkdir(parents=True, exist_ok=True)
    if image is None:
        image = np.random.default_rng(0).integers(0, 256, (*mask.shape[:2], 3), np.uint8)
    Image.fromarray(image).save(root / "images" / f"{name}.png")
    Image.fromarray(mask).save(root / "masks" / f"{name}{suffix}")


def source(root: Path, classes: Any = ("a", "b"), **options: Any) -> FileSource:
    return folder(root=root, split="train", classes=classes, fractions={"train": 1}, **options)


def only_problem(found: Audit) -> str:
    assert len(found.problems) == 1, found.problems
    assert found.problems[0] in found.report()
    return found.problems[0]


def override(sentence: str, option: str = "file_values") -> dict[int, int]:
    """The map offered in quotes, as it would be pasted."""
    pasted = re.search(rf"'\+*data\.{option}=\{{([\d:,]+)\}}'", sentence)
    assert pasted, sentence
    return {int(k): int(v) for k, v in (item.split(":") for item in pasted[1].split(","))}


def test_counts_of_a_sound_set(tmp_path: Path) -> None:
    write(tmp_path, "1", [[0, 0, 0, 1]])
    write(tmp_path, "2", [[0, 255], [0, 255]])
    found = audit(source(tmp_path, ["a", "b", "rare"]))
    assert (found.total, found.looked_at, found.labelled) == (2, 2, 2)
    assert found.sizes == {(4, 1): 1, (2, 2): 1}
    assert found.modes == {"L": 2}
    assert found.pixels[[0, 1, 2, 255]].tolist() == [5, 1, 0, 2]
    assert found.label_images[[0, 1, 2, 255]].tolist() == [2, 1, 0, 1]
    assert found.problems == []
    assert found.notes == ["rare: in none of 2 labels; check split and label map, or drop the class"]
    report = found.report()
    assert "image size  2x2: 1, 4x1: 1" in report
    assert re.search(r"0  a +62\.5 % +2  0\n", report)
    assert re.search(r"255  \(ignored\) +25\.0 % +1  255\n", report)
    preflight(source(tmp_path, ["a", "b", "rare"]))


def test_masks_of_0_and_255(tmp_path: Path) -> None:
    for name in "123":
        write(tmp_path, name, [[0, 255]])
    sentence = only_problem(audit(source(tmp_path)))
    assert "masks/1.png: like all 3 labels it holds no values but 0 and 255" in sentence
    assert override(sentence) == {0: 0, 255: 1}
    assert audit(source(tmp_path, file_values=override(sentence))).problems == []
    assert audit(source(tmp_path, file_values={0: 0, 255: 255})).problems == []  # ignoring may be stated
    with pytest.raises(UserError, match=r"data\.classes=\[only,name1\]"):
        preflight(source(tmp_path, ["only"]))


def test_masks_of_1_and_255(tmp_path: Path) -> None:
    write(tmp_path, "1", [[1, 255]])
    assert override(only_problem(audit(source(tmp_path)))) == {1: 1, 255: 0}


def test_a_sample_of_one_class_is_no_proof(tmp_path: Path) -> None:
    for i in range(8):
        write(tmp_path, str(i), [[0, 255]])
    write(tmp_path, "30", [[1, 1]])  # sorted between those that the sample of two looks at
    preflight(source(tmp_path), limit=2)


def test_every_pixel_ignored(tmp_path: Path) -> None:
    write(tmp_path, "1", [[7, 255]])
    sentence = only_problem(audit(source(tmp_path, file_values={7: 255, 255: 255})))
    assert re.search(
        r"1\.png: every pixel of all 1 labels is ignored.*data\.file_values \(stored: label value 7", sentence
    )


def test_labels_that_count_from_one(tmp_path: Path) -> None:
    write(tmp_path, "1", [[1, 2, 255]])
    sentence = only_problem(audit(source(tmp_path)))
    assert "1.png: label value 2 occurs and 0 never does, so the labels of 2 classes count from one" in sentence
    assert override(sentence) == {1: 0, 2: 1, 255: 255}
    assert audit(source(tmp_path, file_values=override(sentence))).problems == []


def test_one_value_more_than_classes(tmp_path: Path) -> None:
    write(tmp_path, "1", [[0, 1, 2]])
    sentence = only_problem(audit(source(tmp_path)))
    assert "label value 2 occurs, but 2 classes are 0..1" in sentence
    assert "add the missing class to data.classes" in sentence
    assert override(sentence) == {0: 255, 1: 0, 2: 1}
    assert override(sentence.split("if 2 is unlabelled")[1]) == {0: 0, 1: 1, 255: 255, 2: 255}


def test_values_in_no_class(tmp_path: Path) -> None:
    write(tmp_path, "1", [[0, 1, 38, 75]])
    write(tmp_path, "2", [[0, 1, 38, 38]])
    sentence = only_problem(audit(source(tmp_path)))
    assert re.search(r"1\.png, .*2\.png: label value 38, 75 \(50\.0 % of all label pixels\) in no class", sentence)
    assert override(sentence) == {0: 0, 1: 1, 255: 255, 38: 255, 75: 255}
    assert audit(source(tmp_path, file_values=override(sentence))).problems == []
    sentence = only_problem(audit(source(tmp_path, file_values={0: 0, 1: 1})))
    assert "'++data.file_values={38:255,75:255}'" in sentence
    with pytest.raises(UserError, match="label value 38"):
        preflight(source(tmp_path))


def test_jpeg_masks_and_maps_of_many_values(tmp_path: Path) -> None:
    noise = np.arange(64, dtype=np.uint8).reshape(8, 8)
    write(tmp_path / "jpeg", "1", noise, suffix=".jpg")
    assert "export the masks again as PNG" in only_problem(audit(source(tmp_path / "jpeg")))
    write(tmp_path / "depth", "1", noise)
    assert "instance or depth map" in only_problem(audit(source(tmp_path / "depth")))


def test_colours_in_no_class(tmp_path: Path) -> None:
    write(tmp_path, "1", [[RED, GREEN, (1, 2, 3), (0, 0, 0)]])
    options = {"classes": {"a": RED, "b": GREEN}, "encoding": "color"}
    sentence = only_problem(audit(source(tmp_path, **options, file_colors={"ignore": [9, 9, 9]})))
    assert sentence.index("add a class with '++data.classes={name:[1,2,3]}'") < sentence.index("or ignore with")
    assert "colour (1, 2, 3) (25.0 % of all label pixels) in no class" in sentence
    assert "'++data.file_colors={ignore:[[9,9,9],[1,2,3]]}'" in sentence
    assert audit(source(tmp_path, **options, file_colors={"ignore": [[9, 9, 9], [1, 2, 3]]})).problems == []


def test_stray_colours_of_a_published_set_are_a_note(tmp_path: Path) -> None:
    label = np.array([[(128, 64, 128), (0, 0, 0), (1, 2, 3), (1, 2, 3)]], np.uint8)
    for name in ("701_StillsRaw_full/0006R0_f00930.png", "LabeledApproved_full/0006R0_f00930_L.png"):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(label).save(tmp_path / name)
    found = audit(camvid32(root=tmp_path, split="train"))
    assert found.problems == []
    assert any("colour (1, 2, 3) in no class, read as ignored (50.0 %" in note for note in found.notes)
    assert found.pixels[[3, 255]].tolist() == [1, 1]


def test_broken_files_do_not_end_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(8):
        write(tmp_path, str(i), [[0, 1], [0, 1]], image=rng.integers(0, 256, (2, 2, 3), np.uint8))
    (tmp_path / "masks" / "1.png").write_bytes(b"")
    (tmp_path / "masks" / "2.png").write_bytes(b"")
    (tmp_path / "images" / "3.png").write_bytes((tmp_path / "images" / "3.png").read_bytes()[:40])
    write(tmp_path, "4", [[RED, GREEN]])
    write(tmp_path, "5", np.zeros((3, 2)), image=np.zeros((2, 3, 3), np.uint8))
    noise = rng.integers(0, 256, (64, 64, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "images" / "6.jpg"), noise)
    write(tmp_path, "6", np.zeros((64, 64)), image=noise)
    (tmp_path / "images" / "6.png").unlink()
    whole = (tmp_path / "images" / "6.jpg").read_bytes()
    (tmp_path / "images" / "6.jpg").write_bytes(whole[: len(whole) // 2])
    write_huge_header(tmp_path / "masks" / "7.png")
    found = audit(source(tmp_path))
    text = "\n".join(found.problems)
    assert (found.looked_at, found.labelled, len(found.problems)) == (8, 1, 6)
    assert re.search(r"masks/7\.png: has more than 178,956,970 pixels by its header; .*restore or remove it", text)
    assert re.search(r"masks/1\.png, .*masks/2\.png: file is empty \(0 bytes\); restore or remove it", text)
    assert re.search(r"images/3\.png: cannot be decoded as an image", text)
    assert re.search(r"masks/4\.png: label has 3 channels \(mode RGB\).*data\.encoding=color", text)
    assert re.search(r"masks/5\.png: label is 2x3 but its image is 3x2 \(width x height\).*EXIF", text)
    assert re.search(r"images/6\.jpg: JPEG is truncated .*; restore or remove it", text)


def write_huge_header(path: Path) -> None:
    """A PNG whose damaged header claims 2^30 pixels."""
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 1 << 15, 1 << 15)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    path.write_bytes(bytes(data))


def test_a_rotated_photo_with_an_upright_mask_is_sound(tmp_path: Path) -> None:
    write(tmp_path, "1", np.array([[0, 1]] * 3))
    (tmp_path / "images" / "1.png").unlink()
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter: 3x2 stored, 2x3 seen
    Image.new("RGB", (3, 2), RED).save(tmp_path / "images" / "1.jpg", exif=exif)
    found = audit(source(tmp_path))
    assert found.problems == []
    assert found.sizes == {(2, 3): 1}
    assert "images/1.jpg: carries an EXIF rotation (90 degrees: 1), so it is read upright" in found.notes[0]


def test_palette_masks_count_indices(tmp_path: Path) -> None:
    write(tmp_path, "1", [[0, 1]])
    mask = Image.fromarray(np.array([[0, 1]], np.uint8))
    mask.putpalette([*RED, *GREEN])
    mask.save(tmp_path / "masks" / "1.png")
    found = audit(source(tmp_path))
    assert (found.modes, found.problems) == ({"P": 1}, [])


def test_unmatched_and_unlabelled_are_notes(tmp_path: Path) -> None:
    write(tmp_path, "1", [[0, 1]])
    Image.new("L", (1, 1)).save(tmp_path / "masks" / "spare.png")
    assert re.search(r"masks/spare\.png: label without image; .*data\.mask_suffix", audit(source(tmp_path)).notes[0])
    bare = FileSource([Pair(tmp_path / "images" / "1.png", None, "1")], LabelSpace(["a"], [RED]))
    assert audit(bare).notes == ["no sample has a label, so the split serves prediction only"]
    assert audit(bare).problems == []
    with pytest.raises(UserError, match=r"none of 1 samples .* has a label; name a labelled split in data\.splits"):
        preflight(bare)


def test_an_empty_source() -> None:
    assert "data.root" in only_problem(audit(FileSource([], LabelSpace(["a"], [RED]))))


def test_limit_spreads_evenly(tmp_path: Path) -> None:
    for i in range(9):
        write(tmp_path, str(i), np.zeros((1, i + 1)))
    found = audit(source(tmp_path), limit=3)
    assert sorted(found.sizes) == [(1, 1), (5, 1), (9, 1)]
    assert (found.total, found.looked_at) == (9, 3)


def test_a_source_without_files() -> None:
    class Drawn(Source):
        label_space = LabelSpace(["a", "b"], [RED, GREEN])

        def __len__(self) -> int:
            return 3

        def name(self, index: int) -> str:
            return f"drawn{index}"

        def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            if index == 2:
                raise UserError("cannot be drawn")
            return np.zeros((1, 2, 3), np.uint8), np.array([[0, 1]], np.uint8)

    found = audit(Drawn())
    assert found.pixels[:2].tolist() == [2, 2]
    assert only_problem(found) == "drawn2: cannot be drawn"


def test_many_kinds_of_unknown_are_bounded(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write(tmp_path, "1", rng.integers(0, 256, (40, 40, 3), np.uint8))
    found = audit(source(tmp_path, classes={"a": RED}, encoding="color"))
    assert len(found.unknown) <= 65
    assert re.search(r"\(in no class\) +[\d.]+ % +1  others\n", found.report())  # labels, not values
    assert sum(files.pixels for files in found.unknown.values()) + found.pixels.sum() == 1600
    assert "smoothed masks" in only_problem(found)


def test_real_camvid_mini(camvid_mini: Path) -> None:
    found = audit(camvid(root=camvid_mini, split="train"))
    assert (found.labelled, found.problems, found.notes) == (24, [], [])
    shares = 100 * found.pixels / found.pixels.sum()
    published = [15.70, 23.11, 1.03, 32.40, 4.37, 10.99, 1.31, 1.05, 5.80, 0.72, 0.21]
    np.testing.assert_allclose(shares[:11], published, atol=0.005)
    np.testing.assert_allclose(shares[255], 3.31, atol=0.005)


def stored(root: Path, image: Image.Image, suffix: str = ".png", **options: Any) -> Audit:
    """An audit of one mask as Pillow writes it."""
    write(root, "1", np.zeros(image.size[::-1]), suffix=".tmp.png")
    (root / "masks" / "1.tmp.png").unlink()
    image.save(root / "masks" / f"1{suffix}")
    return audit(source(root, **options))


def test_bits_and_sixteen_bits_are_read_by_value(tmp_path: Path) -> None:
    mask = np.array([[0, 1, 1, 1]], np.uint8)
    bits = stored(tmp_path / "bit", Image.fromarray(mask.astype(bool)))
    wide = stored(tmp_path / "wide", Image.fromarray(mask.astype(np.uint16)))
    assert (bits.modes, wide.modes) == ({"1": 1}, {"I;16": 1})
    for found in (bits, wide):
        assert found.problems == []
        assert found.pixels[:2].tolist() == [1, 3]


def test_sixteen_bits_past_255_and_fractions(tmp_path: Path) -> None:
    wide = only_problem(stored(tmp_path / "wide", Image.fromarray(np.array([[0, 26001]], np.uint16))))
    assert re.search(r"1\.png: label values 0\.\.26001 do not fit 8 bits .*instance.*data\.root", wide)
    part = only_problem(stored(tmp_path / "part", Image.fromarray(np.array([[0, 0.5]], np.float32)), ".tif"))
    assert re.search(r"1\.tif: label holds fractions .*save it as an 8-bit grey or palette PNG", part)


@pytest.mark.parametrize(("mode", "channels"), [("RGBA", 4), ("LA", 2), ("RGB", 3)])
def test_masks_of_several_channels(tmp_path: Path, mode: str, channels: int) -> None:
    sentence = only_problem(stored(tmp_path, Image.new(mode, (4, 2))))
    assert f"1.png: label has {channels} channels (mode {mode})" in sentence
    assert "grey or palette PNG" in sentence


def test_the_alpha_of_colour_masks_is_left_out(tmp_path: Path) -> None:
    mask = Image.fromarray(np.array([[[*RED, 0], [*GREEN, 255]]], np.uint8))
    found = stored(tmp_path, mask, classes={"a": RED, "b": GREEN}, encoding="color")
    assert (found.problems, found.pixels[:2].tolist()) == ([], [1, 1])


def test_jpeg_masks_are_a_note_even_where_every_value_is_known(tmp_path: Path) -> None:
    found = stored(tmp_path, Image.new("L", (8, 8)), ".jpg")
    assert found.modes == {"L JPEG": 1}
    assert found.problems == []
    assert any("1.jpg: label is stored as JPEG" in note for note in found.notes)


def test_mostly_ignored_labels(tmp_path: Path) -> None:
    write(tmp_path, "1", [[0, 1, 255, 255, 255]])
    (note,) = audit(source(tmp_path)).notes
    assert "60.0 % of all label pixels are ignored (stored as 255)" in note
    assert override(note) == {0: 0, 1: 1, 255: 2}
    assert audit(source(tmp_path, ["a", "b", "c"], file_values=override(note))).pixels[:3].tolist() == [1, 1, 3]
    (note,) = audit(source(tmp_path, file_values={0: 0, 1: 1, 255: 255})).notes
    assert "label map" in note
    write(tmp_path, "1", [[0, 1, 255, 255]])
    assert audit(source(tmp_path)).notes == []


def test_an_image_of_one_tone_is_a_note(tmp_path: Path) -> None:
    write(tmp_path, "1", [[0, 1]], image=np.full((1, 2, 3), 4, np.uint8))
    write(tmp_path, "2", [[0, 1]])
    (note,) = audit(source(tmp_path)).notes
    assert "1.png: its image is of one tone" in note


def test_what_confidence_hides_counts_as_ignored(tmp_path: Path) -> None:
    write(tmp_path, "1", [[0, 1, 1, 1]])
    Image.fromarray(np.array([[255, 255, 10, 10]], np.uint8)).save(tmp_path / "sure.png")
    sure = [source(tmp_path).pairs[0]._replace(confidence=tmp_path / "sure.png")]
    space = LabelSpace(["a", "b"], [RED, GREEN])
    found = audit(FileSource(sure, space, min_confidence=0.5))
    assert found.pixels[[0, 1, 255]].tolist() == [1, 1, 2]
    assert found.stored == {0: 0, 1: 1}
    Image.fromarray(np.array([[255]], np.uint8)).save(tmp_path / "sure.png")
    assert "map of confidence is 1x1 but its label is 4x1" in only_problem(
        audit(FileSource(sure, space, min_confidence=0.5))
    )


def test_a_source_that_amends_its_labels_is_counted_as_it_reads(tmp_path: Path) -> None:
    class Halved(FileSource):
        def read(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
            image, label = super().read(index)
            label[:, 2:] = 255
            return image, label

    write(tmp_path, "1", [[0, 1, 1, 1]])
    plain = source(tmp_path)
    found = audit(Halved(plain.pairs, plain.label_space))
    assert found.pixels[[0, 1, 255]].tolist() == [1, 1, 2]


def deep(root: Path, highest: int, suffix: str = ".png") -> Audit:
    """An audit of one 16-bit image with values up to ``highest``."""
    write(root, "1", np.zeros((4, 4)))
    (root / "images" / "1.png").unlink()
    ramp = np.linspace(0, highest, 48).reshape(4, 4, 3).astype(np.uint16)
    cv2.imwrite(str(root / "images" / f"1{suffix}"), ramp)
    return audit(source(root))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_twelve_bits_in_sixteen_are_a_problem_and_sixteen_a_note(tmp_path: Path, suffix: str) -> None:
    dark = only_problem(deep(tmp_path / "dark", 4095, suffix))
    assert re.search(rf"1\{suffix}: of 16 bits the upper 8 are read, .* 1[56] of 255, nearly black.*255 / 4095", dark)
    full = deep(tmp_path / "full", 65535, suffix)
    assert full.problems == []
    assert any("holds more than 8 bits a channel, of which the upper 8 are read" in note for note in full.notes)
    assert re.search(r"image kind  \w+ RGB 16 bit: 1\nlevels      0\.\.255 of 255", full.report())


def test_a_fourth_channel(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 4), np.uint8)
    write(tmp_path, "1", np.zeros((4, 4)))
    Image.fromarray(pixels).save(tmp_path / "images" / "1.png")
    found = audit(source(tmp_path))
    assert found.problems == []
    assert any("images/1.png: its last channel is left out" in note for note in found.notes)
    (tmp_path / "images" / "1.png").unlink()
    Image.fromarray(pixels).save(tmp_path / "images" / "1.tif")  # marked as transparency
    assert "images/1.tif: holds a fourth channel marked as transparency" in only_problem(audit(source(tmp_path)))
    pixels[..., 3] = 255
    Image.fromarray(pixels).save(tmp_path / "images" / "1.tif")
    assert audit(source(tmp_path)).problems == []


def test_images_in_which_nothing_is_to_be_seen(tmp_path: Path) -> None:
    write(tmp_path, "1", [[0, 1]], image=np.array([[[0, 0, 0], [9, 9, 9]]], np.uint8))
    assert "the brightest pixel of all 1 images is 9 of 255" in only_problem(audit(source(tmp_path)))


@pytest.mark.parametrize(("orientation", "word"), [(3, "180 degrees: 1"), (2, "mirrored: 1"), (1, None)])
def test_photos_that_their_exif_turns(tmp_path: Path, orientation: int, word: str | None) -> None:
    write(tmp_path, "1", np.zeros((2, 3)))
    (tmp_path / "images" / "1.png").unlink()
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (3, 2), RED).save(tmp_path / "images" / "1.jpg", exif=exif)
    found = audit(source(tmp_path))
    assert found.problems == []
    assert any("EXIF rotation" in note for note in found.notes) == (word is not None)
    assert word is None or any(word in note for note in found.notes)


def test_image_libraries_say_nothing_of_their_own(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "1", np.zeros((40, 40)))
    path = tmp_path / "images" / "1.png"
    path.write_bytes(path.read_bytes()[:300])
    assert "cannot be decoded" in only_problem(audit(source(tmp_path)))
    assert capfd.readouterr().err == ""
