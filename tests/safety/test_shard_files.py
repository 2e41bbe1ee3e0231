"""Shards, their tables and indexes as a stranger may serve them: nothing is written elsewhere, no size is believed."""

from __future__ import annotations

import copy
import functools
import hashlib
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.data.sets.toy_streets import ToyStreets
from src.data.shards import download_cache, index
from src.data.shards.index import Shard, ShardIndex
from src.data.shards.source import shards
from src.data.shards.table import scan, table_of
from src.data.shards.writer import write_shards
from src.errors import UserError

WRONG = [..., None, True, -1, 2**70, 0.5, "x\n", "", [], {}, [[[1]]], ["x", 1], "../../../../x"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Shards of three images."""
    write_shards(ToyStreets(split="val", length=3, height=32, width=40), tmp_path / "shards", split="val")
    return tmp_path / "shards"


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def url(folder: Path) -> Iterator[str]:
    """Serves ``folder``."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def _change(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "val.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("key", ["file", "samples", "bytes", "sha256", "end", "left_out"])
def test_an_index_of_any_kind_is_named(folder: Path, key: str) -> None:
    path = folder / "val.json"
    whole = json.loads(path.read_text())
    for value in [*WRONG, "/etc/passwd", "a/b.tar", ".hidden.tar", "x\0.tar", "e" * 64 + "\n", "z" * 64, 2**60]:
        content = copy.deepcopy(whole)
        content["shards"][0][key] = value
        if value is ...:
            del content["shards"][0][key]
        path.write_text(json.dumps(content))
        if (key, value) in (("left_out", []), ("end", 2**60)):
            ShardIndex.load(path)
            continue
        with pytest.raises(UserError, match=r"val\.json: is not an index of shards") as caught:
            ShardIndex.load(path)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("key", ["format", "split", "names", "colors", "categories", "shards", "complete", "source"])
def test_other_entries_of_an_index_never_end_in_a_trace(folder: Path, key: str) -> None:
    path = folder / "val.json"
    whole, refused = json.loads(path.read_text()), 0
    for value in WRONG:
        content = {**whole, key: value}
        if value is ...:
            del content[key]
        path.write_text(json.dumps(content))
        try:
            shards(root=folder, split="val")
        except UserError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 10_000, b"\xff", b"5", b"null", b'{"samples": NaN}', b"\0"])
def test_what_is_no_index_is_named(folder: Path, content: bytes) -> None:
    (folder / "val.json").write_bytes(content)
    with pytest.raises(UserError, match=r"val\.json: is not an index of shards"):
        shards(root=folder, split="val")


@pytest.mark.parametrize("change", [{"sha256": "/../../../escaped"}, {"file": "../../escaped.tar"},
                                    {"file": "/tmp/escaped.tar"}, {"samples": 2**40}])  # fmt: skip
def test_an_index_at_an_address_writes_nothing_outside_of_the_cache(
    folder: Path, url: str, tmp_path: Path, change: dict[str, Any]
) -> None:
    _change(folder, lambda content: content["shards"][0].update(change))
    before = _files(tmp_path)
    with pytest.raises(UserError, match=r"val\.json: is not an index of shards"):
        shards(root=url, split="val", cache=tmp_path / "a/b/cache")
    assert _files(tmp_path) - before == {tmp_path / "a/b/cache/val.json"}
    with pytest.raises(UserError, match=r"split=\.\./\.\./val must be a name"):
        shards(root=url, split="../../val", cache=tmp_path / "a/b/cache")


def test_more_than_was_promised_is_not_fetched(folder: Path, url: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(download_cache, "LARGEST_INDEX", 10_000)
    with (folder / "val.json").open("ab") as file:
        file.write(b" " * 10**7 + b"}")
    with pytest.raises(UserError, match=r"val\.json: cannot be fetched \(more than 10000 bytes came\)"):
        shards(root=url, split="val", cache=tmp_path / "cache")
    assert not _files(tmp_path / "cache")
    monkeypatch.setattr(index, "LARGEST_INDEX", 10_000)
    with pytest.raises(UserError, match=r"val\.json: has more than"):
        shards(root=folder, split="val")


def _table(path: Path, **changed: np.ndarray | bytes) -> None:
    """Rewrites the table of a shard; bytes stand for a whole member."""
    with np.load(path) as kept:
        arrays = dict(kept)
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in {**arrays, **changed}.items():
            file = io.BytesIO()
            if isinstance(array, bytes):
                file.write(array)
            else:
                np.lib.format.write_array(file, array)
            archive.writestr(f"{name}.npy", file.getvalue())


def _header(shape: tuple[int, ...], descr: str = "<i8") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"shape": shape, "fortran_order": False, "descr": descr})
    return file.getvalue() + bytes(64)


@pytest.mark.parametrize(
    "changed",
    [
        {"places": _header((2**40, 8))}, {"places": _header((3, 8), "|O")}, {"places": np.zeros((2**10, 8), np.int64)},
        {"places": np.full((3, 8), 2**62)}, {"places": np.zeros((3, 8), np.int64)},
        {"places": np.ones((3, 8), np.int32)},
        {"ends": np.array([5, 4, 3])}, {"ends": np.array([0, 0, 2**40])}, {"ends": np.array([-5, 0, 0])},
        {"names": b"\x93NUMPY"}, {"names": b""}, {"sha256": _header((2**50,), "<U64")},
        {"places": b"\x93NUMPY\x01\x00\xff\xff"},
    ],
)  # fmt: skip
def test_a_table_that_lies_is_made_anew(folder: Path, changed: dict[str, Any]) -> None:
    path = folder / "val-000000.tar"
    shard = ShardIndex.load(folder / "val.json").shards[0]
    right = table_of(path, shard)
    _table(path.with_suffix(".npz"), **changed)
    found = table_of(path, shard)
    assert np.array_equal(found.places, right.places) and found.names == right.names
    assert len(shards(root=folder, split="val").read(2)) == 2


def test_a_compressed_table_is_not_unpacked(folder: Path) -> None:
    path = folder / "val-000000.npz"
    with np.load(path) as kept:
        arrays = dict(kept)
    np.savez_compressed(path, **{**arrays, "names": np.zeros(10**7, np.uint8)})
    assert len(shards(root=folder, split="val")) == 3
    assert path.stat().st_size < 10_000


def _shard(
    path: Path, members: list[tuple[str, bytes]], change: Callable[[tarfile.TarInfo], None] | None = None
) -> Shard:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if change:
                change(info)
            tar.addfile(info, io.BytesIO(content))
    content = path.read_bytes()
    return Shard(path.name, 1, len(content), hashlib.sha256(content).hexdigest(), 1, [])


ABOUT = {"name": "a", "height": 32, "width": 40}


@pytest.mark.parametrize(
    "about",
    [b"", b"[]", b"[" * 10_000, b"\xff", b'{"name": "a"}', *(json.dumps({**ABOUT, key: value}).encode()
     for key in ABOUT for value in (None, -1, 2**40, [], {}, 0.5) if (key, value))],
)  # fmt: skip
def test_a_shard_that_says_odd_things_is_named(tmp_path: Path, about: bytes) -> None:
    path = tmp_path / "val-000000.tar"
    shard = _shard(path, [("0.png", b"x"), ("0.json", about)])
    with pytest.raises(UserError, match=r"val-000000\.tar") as caught:
        table_of(path, shard)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_only_files_are_read_from_a_shard(tmp_path: Path, kind: bytes) -> None:
    def change(info: tarfile.TarInfo) -> None:
        info.type, info.linkname, info.size = kind, "/etc/passwd", 0

    path = tmp_path / "val-000000.tar"
    _shard(path, [("0.png", b""), ("0.json", b"")], change)
    with pytest.raises(UserError, match=r"val-000000\.tar: is not a shard"):
        scan(path)


@pytest.mark.parametrize("name", [b"0", b"../../x", b""])
def test_names_without_a_suffix_are_named(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / "val-000000.tar"
    _shard(path, [(name.decode() or "x", b"x")])
    if name == b"../../x":
        assert not len(scan(path).ends)  # a name is never a path here
        return
    with pytest.raises(UserError, match=r"val-000000\.tar: is not a shard"):
        scan(path)


def test_a_file_that_ends_after_its_shard_is_named(tmp_path: Path) -> None:
    path = tmp_path / "val-000000.tar"
    info = tarfile.TarInfo("0.png")
    info.size = 8 * 2**30 - 1
    path.write_bytes(info.tobuf(tarfile.USTAR_FORMAT) + bytes(10_240))
    with pytest.raises(UserError, match=r"val-000000\.tar: is not a shard"):
        scan(path)
    info.type = tarfile.XHDTYPE  # a header of eight gigabytes
    path.write_bytes(info.tobuf(tarfile.USTAR_FORMAT) + bytes(10_240))
    with pytest.raises(UserError, match=r"val-000000\.tar: is not a shard"):
        scan(path)
