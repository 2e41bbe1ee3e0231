"""A bundle is data: whatever was changed in it is refused by the name of its file, and nothing in it runs."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import shutil
import struct
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from src.build.from_checkpoint import load_module, read_metadata, saved_config
from src.checkpoints.bundle import identity, is_bundle
from src.checkpoints.load import check_finite, load_checkpoint, tensors_of
from src.errors import UserError
from src.exporting.bundle_writer import write_bundle
from tests.conftest import SMALL, call, save_untrained
from tests.safety.test_hostile_checkpoints import PLACES, SECRET, Server, _harmful, _put

NEEDED = ("model.safetensors", "config.json", "README.md")
FILES = (*NEEDED, "picture.png", "SHA256SUMS")


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    return write_bundle(save_untrained(folder / "net.ckpt", *SMALL, "data.size=[64,96]"), folder / "genuine")


@pytest.fixture
def bundle(genuine: Path, tmp_path: Path) -> Path:
    """A copy to be spoilt."""
    return Path(shutil.copytree(genuine, tmp_path / "net"))


def _seal(folder: Path, *more: str) -> Path:
    """Digests of the files as they are now, as whoever means harm would write them."""
    names = sorted(path.name for path in folder.iterdir() if path.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}" for name in names]
    (folder / "SHA256SUMS").write_text("\n".join([*lines, *more]) + "\n")
    return folder


def _zipped(folder: Path, *, compression: int = zipfile.ZIP_STORED) -> Path:
    out = folder.with_name("net.semseg.zip")
    with zipfile.ZipFile(out, "w", compression) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)
    return out


def _refused(path: Path, *words: str) -> str:
    """The one sentence that whoever reads the bundle gets."""
    assert is_bundle(path)
    with pytest.raises(UserError) as refusal:
        load_checkpoint(path)
    said = str(refusal.value)
    assert "\n" not in said
    for word in (path.name, *words):
        assert word in said
    return said


def _flip(path: Path, place: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_a_cut_and_a_missing_file_are_named(bundle: Path, name: str) -> None:
    whole = (bundle / name).read_bytes()
    for archive in (False, True):
        for place in (0, len(whole) // 2, len(whole) - 1):
            _flip(bundle / name, place, 1)
            _refused(_zipped(bundle) if archive else bundle, *([] if name == "SHA256SUMS" else [name]))
            (bundle / name).write_bytes(whole)
        (bundle / name).write_bytes(whole[:-1])
        if name != "SHA256SUMS":  # which may end without an end of line
            _refused(_zipped(bundle) if archive else bundle, name)
        (bundle / name).unlink()
        _refused(_zipped(bundle) if archive else bundle, name, "is missing")
        (bundle / name).write_bytes(whole)
    assert load_checkpoint(bundle)


@pytest.mark.slow
def test_no_bit_of_an_archive_can_be_flipped_unseen(bundle: Path) -> None:
    """Its own structure included: either it is refused, or what is read is what was written."""
    archive, random_ = _zipped(bundle), random.Random(0)
    whole, good = archive.read_bytes(), load_checkpoint(bundle)
    start = whole.index(b"PK\x01\x02", len(whole) - 2000)  # the directory, where most of the meaning is
    places = [random_.randrange(len(whole)) for _ in range(60)] + list(range(start, len(whole), 3))
    refused = 0
    for place in places:
        _flip(archive, place, random_.randrange(8))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = load_checkpoint(archive)
        except UserError as error:
            refused += archive.name in str(error)
        else:
            assert found["semseg"] == good["semseg"]
            assert all((found["state_dict"][name] == value).all() for name, value in good["state_dict"].items())
        archive.write_bytes(whole)
    assert refused > 100


def test_an_archive_that_is_cut_short_is_refused(bundle: Path) -> None:
    archive = _zipped(bundle)
    whole = archive.read_bytes()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        archive.write_bytes(whole[:length])
        _refused(archive)


def test_further_files_are_refused(bundle: Path) -> None:
    (bundle / "weights.pkl").write_bytes(pickle.dumps({"x": 1}))
    _refused(bundle, "weights.pkl", "is no file of a bundle")
    _refused(_zipped(bundle), "weights.pkl", "is no file of a bundle")
    _refused(_seal(bundle), "weights.pkl")  # also if it is listed
    (bundle / "weights.pkl").unlink()
    (bundle / "inner").mkdir()
    _refused(bundle, "inner")
    (bundle / "inner").rmdir()
    picture = (bundle / "picture.png").read_bytes()
    (bundle / "picture.png").unlink()
    _seal(bundle)
    (bundle / "picture.png").write_bytes(picture)
    _refused(bundle, "picture.png", "is not listed")
    _seal(bundle)
    (bundle / ".git").mkdir()  # hidden: of git, never read
    assert load_checkpoint(bundle)


@pytest.mark.parametrize(
    "name",
    ["../config.json", "/etc/passwd", "a/../config.json", "..", "config.json ", "C:\\x", "SHA256SUMS", "x\x1b[2J"],
)
def test_names_that_lead_elsewhere_are_refused(bundle: Path, name: str) -> None:
    _refused(_seal(bundle, f"{'0' * 64}  {name}"), "SHA256SUMS")
    _refused(_seal(bundle, f"{'0' * 64}  config.json"), "SHA256SUMS", "config.json")  # a second time
    _seal(bundle)
    archive = _zipped(bundle)
    with zipfile.ZipFile(archive, "a") as more, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        more.writestr(name, b"x")
    assert "\x1b" not in _refused(archive)


def test_links_pipes_and_devices_are_not_followed(bundle: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    shutil.copy(bundle / "config.json", secret)
    (bundle / "config.json").unlink()
    for target in (secret, Path("../secret.json"), Path("/dev/zero"), Path("/etc/passwd")):
        (bundle / "config.json").symlink_to(target)
        _refused(bundle, "config.json", "is a link to a place outside")
        (bundle / "config.json").unlink()
    os.mkfifo(bundle / "config.json")
    _refused(bundle, "config.json", "is no regular file")
    (bundle / "config.json").unlink()
    shutil.copy(secret, bundle)
    archive = _zipped(bundle)
    with zipfile.ZipFile(archive, "w") as file:
        entry = zipfile.ZipInfo("config.json")
        entry.external_attr = 0o120777 << 16
        file.writestr(entry, b"../secret.json")
    _refused(archive, "config.json", "is no regular file")


def test_archives_that_unpack_to_more_are_refused(bundle: Path) -> None:
    (bundle / "README.md").write_bytes(bytes(2**20))
    _refused(_zipped(_seal(bundle), compression=zipfile.ZIP_DEFLATED), "is compressed")
    archive = _zipped(bundle)
    with zipfile.ZipFile(archive, "a") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file.writestr("config.json", b"{}")
    _refused(archive, "config.json twice")
    (bundle / "README.md").write_bytes(b"x")
    archive = _zipped(_seal(bundle))
    content = bytearray(archive.read_bytes())
    place = content.index(b"README.md", content.index(b"PK\x01\x02", len(content) - 2000)) - 46
    for size in (2**31 - 1, 10**6):
        struct.pack_into("<II", content, place + 20, size, size)
        archive.write_bytes(content)
        _refused(archive)


@pytest.mark.parametrize(
    ("kind", "shape", "size"),
    [("F32", [2**63, 0], 0), ("F8_E4M3", [2], 2), ("F8_E5M2", [2], 2), ("F8_E8M0", [2], 2), ("F4", [2], 1)],
)
def test_odd_numbers_in_safetensors_are_refused(
    bundle: Path, tmp_path: Path, kind: str, shape: list[int], size: int
) -> None:
    header = json.dumps({"net.a": {"dtype": kind, "shape": shape, "data_offsets": [0, size]}}).encode()
    (bundle / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"x" * size)
    alone = tmp_path / "a.safetensors"
    shutil.copy(bundle / "model.safetensors", alone)
    for path in (_seal(bundle), alone):
        with pytest.raises(UserError, match=path.name) as refusal:
            check_finite(tensors_of(load_checkpoint(path), path), path)
            raise UserError(f"{path}: would not fit")
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["net.semseg.zip", "net.zip"])
def test_a_directory_of_many_entries_is_refused_before_it_is_read(tmp_path: Path, name: str) -> None:
    entry = struct.pack("<4s4B4H3I5H2I", b"PK\1\2", 20, 3, 20, *[0] * 8, 1, *[0] * 6) + b"a"
    directory = entry * 200_000
    end = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 200_000, 200_000, len(directory), 0)
    end += struct.pack("<4sIQI", b"PK\6\7", 0, len(directory), 1)
    path = tmp_path / name
    path.write_bytes(directory + end + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, 47, 0, 0))
    tracemalloc.start()
    try:
        assert is_bundle(path) == (name == "net.semseg.zip")
        if is_bundle(path):
            _refused(path, "directory")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_weights_that_are_a_pickle_are_refused(bundle: Path, tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path}/marker",)

    for content in (pickle.dumps(Harm()), (2**62).to_bytes(8, "little") + b"{}", b"", b"\x02\0\0\0\0\0\0\0{}"):
        (bundle / "model.safetensors").write_bytes(content)
        _seal(bundle)
        with pytest.raises(UserError, match="net"):
            load_module(bundle)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda config: config.update(version=2), "is of version 2"),
        (lambda config: config.update(version="1"), "is not of a bundle"),
        (lambda config: config.update(version=True), "is not of a bundle"),
        (lambda config: config.update(format="other"), "is not of a bundle"),
        (lambda config: config.pop("model"), "model is missing"),
        (lambda config: config.update(data=[]), "data should be"),
        (lambda config: config["normalisation"].update(mean=["a", 1, 2]), "normalisation.mean"),
        (lambda config: config["normalisation"].update(mean=[1, 2]), "normalisation.mean"),
        (lambda config: config["label_space"].update(names="abc"), "label_space.names"),
        (lambda config: config["label_space"].update(colors=[[0, 0, -1]]), "label_space.colors"),
        (lambda config: config.update(scores={"test": {"miou": 7}}), "scores.test.miou"),
        (lambda config: config.update(start={"weights": {}}), "start.weights"),
    ],
)
def test_other_configs_are_refused(bundle: Path, change: Callable[[dict[str, Any]], Any], word: str) -> None:
    config = json.loads((bundle / "config.json").read_text())
    change(config)
    (bundle / "config.json").write_text(json.dumps(config))
    _refused(_seal(bundle), "config.json", word)
    with pytest.raises(UserError, match=r"config\.json"):
        read_metadata(bundle)


@pytest.mark.parametrize(
    "text", ["", "[]", "5", '{"a": NaN}', '{"a": 1e999}', "[" * 10**5, '{"a":' * 100 + "1" + "}" * 100, "\xff\xfe"]
)
def test_what_is_no_plain_json_is_refused(bundle: Path, text: str) -> None:
    (bundle / "config.json").write_bytes(text.encode("latin-1"))
    _refused(_seal(bundle), "config.json")


def test_what_is_too_large_is_not_read(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (bundle / "config.json").open("r+b") as file:
        file.truncate(2**36)  # which takes no space, but would take the memory
    _refused(bundle, "config.json", "has more than 16 MiB")
    with pytest.raises(UserError, match="has more than"):
        saved_config(bundle)
    with (bundle / "SHA256SUMS").open("r+b") as file:
        file.truncate(2**36)
    _refused(bundle, "SHA256SUMS", "has more than")
    with pytest.raises(UserError, match="has more than"):
        identity(bundle)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as running:
        yield running
        running.shutdown()


NODES = list(_harmful(Path("x"), ""))
READ = ["net", "backbone", "name of the backbone", "scales", "inference", "window", "refinement", "listing", "root"]


def _attack(
    what: str, place: str, command: str, bundle: Path, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    work, marker = bundle.parent, bundle.parent / "harmed/marker"
    marker.parent.mkdir(exist_ok=True)
    (work / "in").mkdir(exist_ok=True)
    cv2.imwrite(str(work / "in/a.png"), np.zeros((64, 96, 3), np.uint8))
    config = json.loads((bundle / "config.json").read_text())
    if what == "a reference":
        config["harm"] = {"_target_": "os.system", "command": f"touch {marker}"}
    _put(config, PLACES[place], _harmful(marker, server.url)[what])
    (bundle / "config.json").write_text(json.dumps(config))
    _seal(bundle)
    line = {
        "predict": [f"source={work / 'in'}", f"out={work / 'p'}", "device=cpu"],
        "evaluate": ["worst_images=0", "trainer=cpu"],
        "export": ["format=bundle", f"out={work / 'copy'}"],
        "benchmark": ["size=[32,64]", "repeats=1", "warmup=0", f"out={work / 'b'}", "device=cpu"],
    }[command]
    status: Any = 0
    try:
        call(command, f"ckpt={bundle}", *line)
    except SystemExit as end:
        status = end.code
    out, err = capfd.readouterr()
    attempt = f"{command}: {what} as {place}"
    assert not list(marker.parent.iterdir()), f"{attempt}: it ran"
    assert server.calls == 0, f"{attempt}: it called out"
    assert SECRET not in out + err, f"{attempt}: it printed the secret"
    assert "Traceback" not in err and "this is a fault" not in err, f"{attempt}: {err}"
    assert sum(line.startswith("error: ") for line in err.splitlines()) == (status != 0), f"{attempt}: {err}"
    for path in work.glob("copy/*"):
        assert SECRET.encode() not in path.read_bytes(), f"{attempt}: the secret is in {path}"


@pytest.mark.parametrize(("what", "place", "command"), [(NODES[2], "net", "predict")])
def test_nothing_in_a_bundle_runs_or_calls_out(
    what: str,
    place: str,
    command: str,
    bundle: Path,
    server: Server,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SEMSEG_SECRET", SECRET)
    monkeypatch.chdir(bundle.parent)
    _attack(what, place, command, bundle, server, capfd)


@pytest.mark.slow
@pytest.mark.parametrize("what", NODES)
def test_no_place_of_a_bundle_is_open(
    what: str,
    genuine: Path,
    tmp_path: Path,
    server: Server,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each node in places that are read, every command in turn."""
    monkeypatch.setenv("SEMSEG_SECRET", SECRET)
    commands = ("predict", "export", "evaluate", "benchmark")
    for number, place in enumerate(READ[NODES.index(what) % 3 :: 3]):
        work = tmp_path / str(number)
        bundle = Path(shutil.copytree(genuine, work / "net"))
        monkeypatch.chdir(work)
        _attack(what, place, commands[(number + NODES.index(what)) % 4], bundle, server, capfd)


def test_what_a_card_names_is_text(bundle: Path, tmp_path: Path) -> None:
    config = json.loads((bundle / "config.json").read_text())
    for name, value, said in (("start", {"weights": 5}, "start.weights"), ("checkpoint", {}, "checkpoint.name")):
        (bundle / "config.json").write_text(json.dumps({**config, name: value}))
        _refused(_seal(bundle), "config.json", said)
    (bundle / "config.json").write_text(json.dumps({**config, "start": {"more": "x"}}))
    assert "| unknown" in (write_bundle(_seal(bundle), tmp_path / "out") / "README.md").read_text()
