"""Image and label files: damage, absurd headers and full memory are told apart, each in one line."""

from __future__ import annotations

import os
import resource
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.data.decoding import image_size, read_image, read_label
from src.errors import UserError, memory_full, out_of_memory

READERS = (read_image, image_size, read_label)


def bound(extra: int | None, task: Callable[[], object]) -> str:
    """What ``task`` says in a child process that may have ``extra`` bytes more than it has, or any number."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if extra is not None:
                now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (now + extra, resource.RLIM_INFINITY))
            task()
            said = "nothing"
        except Exception as error:
            said = f"full: {memory_full(error)}" if out_of_memory(error) else f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
@pytest.mark.parametrize(
    "suffix",
    [".png", ".jpg", ".tif", *(pytest.param(suffix, marks=pytest.mark.slow) for suffix in (".bmp", ".webp", ".gif"))],
)
def test_full_memory_is_never_taken_for_damage(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"large{suffix}"
    bound(None, lambda: Image.new("RGB", (5000, 5000)).save(path))  # what this process had and freed would count
    for megabytes in (16, 86, 154):
        said = bound(megabytes << 20, lambda: read_image(path))
        assert "corrupt" not in said
        assert said == "nothing" or "memory" in said
        assert said.count("\n") == 0
    said = bound(16 << 20, lambda: read_image(path))
    assert said.startswith(f"full: main memory is full: {path}: there is no room for its ")
    assert "; for training lower data.batch_size" in said


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_full_memory_is_never_taken_for_a_damaged_label(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    bound(None, lambda: Image.new("L", (9000, 9000)).save(path))
    assert bound(16 << 20, lambda: read_label(path)).startswith(f"full: main memory is full: {path}: there is no room")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int) -> bytes:
    header = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def tiff(width: int | bytes, height: int | bytes) -> bytes:
    """A grey TIFF of one strip; a size given as bytes is written as text."""

    def entry(tag: int, value: int | bytes) -> bytes:
        kind, data = (2, value.ljust(4, b"\0")) if isinstance(value, bytes) else (4, struct.pack("<I", value))
        return struct.pack("<HHI", tag, kind, 4 if kind == 2 else 1) + data

    entries = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 2**31 - 1, 279: 4}
    body = b"".join(entry(*item) for item in entries.items())
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + body + bytes(8)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("wide.png", png(2**31 - 1, 1)),
        ("both.png", png(2**31 - 1, 2**31 - 1)),
        ("million.png", png(10**6, 10**6)),
        ("wide.tif", tiff(2**31, 2**10)),
        ("both.tif", tiff(2**32 - 1, 2**32 - 1)),
        ("text.tif", tiff(b"abc", b"xyz")),
        ("none.tif", tiff(0, 0)),
    ],
)
def test_absurd_headers_are_refused_in_one_line_and_little_memory(
    tmp_path: Path, read: Callable[[Path], object], name: str, content: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    said = bound(64 << 20, lambda: read(path))
    assert said.startswith(f"UserError: {path}: ")
    assert "restore" in said
    assert said.count("\n") == 0


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("suffix", [".png", ".tif", ".gif", ".bmp", ".webp"])
def test_whatever_a_flipped_byte_does_ends_in_pixels_or_in_one_line(
    tmp_path: Path, read: Callable[[Path], object], suffix: str
) -> None:
    path, random = tmp_path / f"a{suffix}", np.random.default_rng(0)
    Image.fromarray(random.integers(0, 255, (8, 9), np.uint8)).save(path)
    whole = path.read_bytes()
    for _ in range(50):
        content = bytearray(whole)
        for place in random.integers(0, len(content), 2):
            content[place] = random.integers(256)
        path.write_bytes(content)
        try:
            read(path)
        except UserError as error:
            assert str(error).startswith(f"{path}: ")
            assert "\n" not in str(error)
        except MemoryError:
            pass  # a header may tell of a size that no machine has room for


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", [None, 1, 3, 6])
def test_the_size_of_a_header_is_that_of_the_decoded_image(tmp_path: Path, suffix: str, orientation: int) -> None:
    tags = Image.Exif()
    if orientation is not None:
        tags[0x0112] = orientation
    Image.new("RGB", (20, 12)).save(tmp_path / f"a{suffix}", exif=tags)
    assert image_size(tmp_path / f"a{suffix}") == read_image(tmp_path / f"a{suffix}").shape[:2]


def test_a_png_may_tell_of_its_turn_behind_its_pixels(tmp_path: Path) -> None:
    path, tags = tmp_path / "a.png", Image.Exif()
    tags[0x0112] = 6
    Image.new("RGB", (20, 12)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[:-12] + chunk(b"eXIf", tags.tobytes().removeprefix(b"Exif\0\0")) + content[-12:])
    assert image_size(path) == read_image(path).shape[:2] == (20, 12)
