"""Shards hold what the data set held, in its order; what is wrong with one ends in a sentence that names it."""

from __future__ import annotations

import functools
import io
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from PIL import Image

from src.data import FileSource, LabelSpace, Pair, SegmentationDataModule
from src.data.cache import fingerprint
from src.data.sampling.class_weights import class_weights
from src.data.sampling.samplers import ClassUniform, Shuffle, ShuffleShards
from src.data.sets.toy_streets import ToyStreets
from src.data.shards.index import ShardIndex
from src.data.shards.source import ShardSource, shards
from src.data.shards.writer import write_shards
from src.data.source import ConcatSource, Source
from src.errors import UserError
from src.files.atomic import locked
from tests.conftest import ROOT, call, files_of_at_most

COUNT = 14
SPACE = LabelSpace(["a", "b", "c"], [(9, 9, 9), (1, 2, 3), (4, 5, 6)], file_values={7: 0, 8: 1, 9: 2, 0: 255})
SMALL = 0.012  # megabytes of a shard: some six samples


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> FileSource:
    """PNG and JPEG images, one of them turned by its EXIF tag, in folders, with dots and spaces in their names."""
    folder, noise, pairs = tmp_path_factory.mktemp("files"), np.random.default_rng(0), []
    for number in range(COUNT):
        name = f"city {number % 2}/day.{number:03d}.v1"
        size = (20, 24 + number % 3)
        image = Image.fromarray(noise.integers(0, 256, (*size, 3), np.uint8))
        exif = Image.Exif()
        if number == 3:
            exif[0x0112] = 6
            size = size[::-1]
        label = Image.fromarray(noise.choice(np.array([7, 8, 9, 0], np.uint8), size))
        paths = [folder / f"{kind}/{name}{'.JPEG' if number % 2 and kind == 'i' else '.png'}" for kind in "im"]
        for path, picture in zip(paths, (image, label), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path, exif=exif) if picture is image else picture.save(path)
        pairs.append(Pair(*paths, name))
    return FileSource(pairs, SPACE)


@pytest.fixture
def folder(files: FileSource, tmp_path: Path) -> Path:
    """Shards of ``files``."""
    assert len(write_shards(files, tmp_path / "out", split="train", shard_mb=SMALL).shards) >= 3
    return tmp_path / "out"


def _same(ours: ShardSource, theirs) -> None:
    assert len(ours) == len(theirs)
    assert (ours.label_space.names, ours.label_space.colors) == (theirs.label_space.names, theirs.label_space.colors)
    for index in range(len(theirs)):
        image, label = theirs.read(index)
        assert (ours.name(index), ours.size(index)) == (theirs.name(index), image.shape[:2])
        assert np.array_equal(ours.read(index)[0], image)
        for other in (ours.read(index)[1], ours.read_label(index)):
            assert np.array_equal(other, label) if label is not None else other is None


def test_samples_are_those_of_the_files(files: FileSource, folder: Path) -> None:
    source = shards(root=folder, split="train")
    _same(source, files)
    _same(pickle.loads(pickle.dumps(source)), files)  # as a loading process that is not forked gets it
    for table in folder.glob("*.npz"):  # copied without the tables
        table.unlink()
    _same(shards(root=folder, split="train"), files)
    assert list(folder.glob("*.npz"))


def test_generated_samples_and_those_without_label(tmp_path: Path) -> None:
    toy = ToyStreets(split="val", length=3, height=32, width=40)
    write_shards(toy, tmp_path, split="val")
    _same(shards(root=tmp_path, split="val"), toy)

    class Bare(ToyStreets):
        def read(self, index: int) -> tuple[np.ndarray, None]:
            return super().read(index)[0], None

    bare = Bare(split="test", length=3, height=32, width=40)
    write_shards(bare, tmp_path, split="test")
    _same(shards(root=tmp_path, split="test"), bare)


def test_the_published_reader_reads_the_same_samples(files: FileSource, folder: Path) -> None:
    import webdataset

    urls = [str(path) for path in sorted(folder.glob("train-*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False))
    assert len({sample["__key__"] for sample in samples}) == len(samples) == COUNT
    for index, sample in enumerate(samples):
        suffix = "jpg" if index % 2 else "png"
        assert sample.keys() - {"__key__", "__url__", "__local_path__"} == {suffix, "label.png", "json"}
        assert sample[suffix] == files.pairs[index].image.read_bytes()
        image, label = files.read(index)
        with Image.open(io.BytesIO(sample["label.png"])) as stored:
            assert (stored.mode, np.array_equal(np.asarray(stored), label)) == ("L", True)
        about = {"name": files.name(index), "height": image.shape[0], "width": image.shape[1]}
        assert json.loads(sample["json"]) == about


@pytest.mark.parametrize("sampler", [Shuffle(), ClassUniform(fraction=0.5, tile=8)])
def test_an_epoch_resumed_or_not_is_that_of_the_files(files: FileSource, folder: Path, sampler: Shuffle) -> None:
    def batches(source, workers: int, state: dict | None = None) -> list:
        module = SegmentationDataModule(
            lambda split: source, {"train": "s"}, sampler=sampler, batch_size=1, num_workers=workers, seed=5
        )
        loader = module.train_dataloader()
        if state:
            loader.load_state_dict(state)
        return [(batch["name"], batch["image"].numpy().tobytes(), batch["label"].numpy().tobytes()) for batch in loader]

    source = shards(root=folder, split="train")
    plain = batches(files, 0)
    source.read(0)  # opened before the fork
    assert batches(source, 2) == plain
    assert batches(source, 1, {"epoch": 0, "batches": 9}) == plain[9:]


def test_counts_of_classes_are_kept_until_a_shard_changes(files: FileSource, folder: Path) -> None:
    source = shards(root=folder, split="train")
    assert class_weights(source, "median_frequency") == class_weights(files, "median_frequency")
    mark = fingerprint(source)
    assert mark is not None
    assert mark == fingerprint(shards(root=folder, split="train"))
    os.utime(folder / "train-000001.tar", ns=(1, 1))
    assert mark != fingerprint(shards(root=folder, split="train"))


@pytest.mark.parametrize("loss", ["kill", "interrupt"])
def test_writing_goes_on_behind_the_last_finished_shard(
    files: FileSource, folder: Path, tmp_path: Path, loss: str
) -> None:
    class Stopping(FileSource):
        def read(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
            if index == 11:
                if loss == "interrupt":
                    raise KeyboardInterrupt
                os.kill(os.getpid(), signal.SIGKILL)
            return super().read(index)

    out, stopping = tmp_path / "again", Stopping(files.pairs, files.label_space)
    # The mark of a source names its class; here both stand for one data set.
    Stopping.__module__, Stopping.__qualname__ = FileSource.__module__, FileSource.__qualname__
    if loss == "kill":
        writer = multiprocessing.get_context("fork").Process(
            target=write_shards, args=(stopping, out), kwargs={"split": "train", "shard_mb": 0.003}
        )
        writer.start()
        writer.join()
        assert writer.exitcode == -signal.SIGKILL
    else:
        with pytest.raises(KeyboardInterrupt):
            write_shards(stopping, out, split="train", shard_mb=0.003)
        assert not list(out.glob(".*.tar"))
    begun = ShardIndex.load(out / "train.json")
    assert 0 < begun.samples < COUNT
    with pytest.raises(UserError, match=r"train\.json: writing stopped after \d+ shards; repeat the command"):
        shards(root=out, split="train")
    times = {shard.file: (out / shard.file).stat().st_mtime_ns for shard in begun.shards}
    write_shards(files, out, split="train", shard_mb=0.003)
    _same(shards(root=out, split="train"), files)
    assert times == {file: (out / file).stat().st_mtime_ns for file in times}
    write_shards(files, tmp_path / "whole", split="train", shard_mb=0.003)
    left = {path.name: path.read_bytes() for path in out.glob("[!.]*.tar")}
    assert left == {path.name: path.read_bytes() for path in (tmp_path / "whole").glob("*.tar")}


def test_a_shard_that_was_lost_is_written_again(files: FileSource, folder: Path) -> None:
    content = (folder / "train-000001.tar").read_bytes()
    (folder / "train-000001.tar").write_bytes(content[:-512])
    write_shards(files, folder, split="train", shard_mb=SMALL)
    assert (folder / "train-000001.tar").read_bytes() == content
    (folder / "train-000001.tar").unlink()
    index = write_shards(files, folder, split="train")
    assert sorted(path.name for path in folder.glob("*.tar")) == [shard.file for shard in index.shards]
    _same(shards(root=folder, split="train"), files)


def test_other_data_are_not_mixed_in(files: FileSource, folder: Path) -> None:
    with pytest.raises(UserError, match=r"train\.json: was written from other data.*another folder for out="):
        write_shards(FileSource(files.pairs[1:], SPACE), folder, split="train")


def test_broken_files_are_left_out_and_told(files: FileSource, tmp_path: Path) -> None:
    pairs = files.pairs[:]
    broken, wrong = tmp_path / "broken.png", tmp_path / "wrong.png"
    broken.write_bytes(pairs[2].image.read_bytes()[:100])
    Image.fromarray(np.full((20, 24), 77, np.uint8)).save(wrong)
    pairs[2] = pairs[2]._replace(image=broken)
    pairs[6] = pairs[6]._replace(label=wrong)
    index = write_shards(FileSource(pairs, SPACE), tmp_path, split="train", shard_mb=SMALL)
    first, second = (line for shard in index.shards for line in shard.left_out)
    assert first.startswith(f"{broken}: cannot be decoded")
    assert second.startswith(f"{wrong}: label value 77 ")
    source = shards(root=tmp_path, split="train")
    assert [source.name(i) for i in range(len(source))] == [
        pair.name for i, pair in enumerate(pairs) if i not in (2, 6)
    ]


def test_labels_of_generated_data_are_checked(tmp_path: Path) -> None:
    class Wrong(ToyStreets):
        def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            image, label = super().read(index)
            return image, np.full_like(label, 11)

    with pytest.raises(UserError, match=r"no sample of split 'train' can be read; train_000000: label value 11 "):
        write_shards(Wrong(split="train", length=2, height=32, width=32), tmp_path, split="train")


def _damage(path: Path, what: str) -> None:
    content = bytearray(path.read_bytes())
    if what == "missing":
        path.unlink()
    elif what == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[1100:1104] = b"\0\1\2\3"  # within the first image
        path.write_bytes(content)


@pytest.mark.parametrize(
    ("what", "table", "message"),
    [
        ("missing", True, "shard is missing"),
        ("truncated", True, r"shard has \d+ bytes but must have \d+, so it is truncated"),
        ("changed", False, "shard is not the one that its index lists .*sha256"),
    ],
)
def test_a_damaged_shard_is_named_at_the_start(folder: Path, what: str, table: bool, message: str) -> None:
    path = folder / "train-000001.tar"
    _damage(path, what)
    if not table:
        path.with_suffix(".npz").unlink()
    with pytest.raises(UserError, match=f"^{path}: {message}.*copy"):
        shards(root=folder, split="train")


@pytest.mark.parametrize("what", ["missing", "truncated", "changed"])
def test_a_shard_damaged_meanwhile_is_named_on_reading(folder: Path, what: str) -> None:
    path, source = folder / "train-000001.tar", shards(root=folder, split="train")
    _damage(path, what)
    first, last = int(source.shard_ends[0]), int(source.shard_ends[1]) - 1
    with pytest.raises(UserError, match=rf"^{path}.*(shard cannot be read any more|shard has changed)"):
        source.read(last if what == "truncated" else first)
    source.read(0)


def test_a_split_that_is_not_there_names_those_that_are(folder: Path) -> None:
    with pytest.raises(UserError, match=r"trian\.json: .*there is train.* Did you mean 'train'\?"):
        shards(root=folder, split="trian")
    (folder / "train.json").write_text("{}")
    with pytest.raises(UserError, match=r"train\.json: is not an index of shards"):
        shards(root=folder, split="train")


def test_few_shards_are_read_at_a_time(folder: Path) -> None:
    source = shards(root=folder, split="train")
    draw = ShuffleShards(window=2).draws(source, len(source))
    epochs = [draw(np.random.default_rng([0, epoch]), epoch)[:, 0] for epoch in range(6)]
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6
    assert np.array_equal(epochs[2], draw(np.random.default_rng([0, 2]), 2)[:, 0])
    for epoch in epochs:
        shard = np.searchsorted(source.shard_ends, epoch, side="right")
        seen = [set(shard[:place]) & set(shard[place:]) for place in range(len(shard))]
        assert max(map(len, seen)) == 2  # begun and not finished
    assert not np.array_equal(np.sort(epochs[0][:6]), np.sort(epochs[1][:6]))  # shards in another order
    both = ShuffleShards(window=1).draws(ConcatSource([source, source]), 2 * COUNT)
    assert sorted(both(np.random.default_rng(0), 0)[:, 0]) == list(range(2 * COUNT))
    with pytest.raises(UserError, match=r"sampler=shuffle_shards orders shards only"):
        ShuffleShards().draws(ToyStreets(split="val", length=3), 3)


def test_shards_at_an_address_are_copied_when_first_read(files: FileSource, folder: Path, tmp_path: Path) -> None:
    url, cache = f"file://{folder}", tmp_path / "cache"
    source = shards(root=url, split="train", cache=cache, cache_gb=1e-9)
    assert not list(cache.glob("*.tar"))
    left = cache / f".{source.cache.local(ShardIndex.load(folder / 'train.json').shards[0]).name}.killed"
    left.write_bytes(b"half a shard")
    source.read(0)
    assert not left.exists()
    source.read(COUNT - 1)
    assert [path.stem[:12] for path in cache.glob("*.tar")] == [f"train-{len(source.shard_ends) - 1:06d}"]
    _same(source, files)  # though the limit holds one shard
    for table in folder.glob("*.npz"):
        table.unlink()
    _same(shards(root=url, split="train", cache=tmp_path / "other"), files)
    assert len(list((tmp_path / "other").glob("*.tar"))) == len(source.shard_ends)


def test_what_is_wrong_at_an_address_is_told_with_it(folder: Path, tmp_path: Path) -> None:
    url = f"file://{folder}"
    source = shards(root=url, split="train", cache=tmp_path / "cache")
    _damage(folder / "train-000001.tar", "changed")
    with pytest.raises(UserError, match=rf"^{url}/train-000001\.tar: shard was changed"):
        source.read(int(source.shard_ends[0]))
    (folder / "train-000000.tar").unlink()
    with pytest.raises(UserError, match=rf"^{url}/train-000000\.tar: cannot be fetched"):
        source.read(0)
    assert not list((tmp_path / "cache").glob("*.tar"))
    with pytest.raises(UserError, match=rf"^{url}/val\.json: cannot be fetched .*data\.root"):
        shards(root=url, split="val", cache=tmp_path / "cache")
    with pytest.raises(UserError, match=r"^nowhere://x/train\.json: cannot be fetched .*nowhere.*; .*s3fs for s3://"):
        shards(root="nowhere://x", split="train", cache=tmp_path / "cache")


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    """Serves ``folder`` over HTTP."""
    with Server(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))) as serving:
        threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield serving
        serving.shutdown()


class Server(ThreadingHTTPServer):
    cut: str | None = None  # end of the names of files of which only the first half is sent
    told = True  # whether their length is
    silent = 0.0  # seconds before any content is sent
    asked = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(SimpleHTTPRequestHandler):
    server: Server

    def send_header(self, keyword: str, value: str) -> None:
        if self.server.told or keyword != "Content-Length":
            super().send_header(keyword, value)

    def copyfile(self, source: BinaryIO, outputfile: BinaryIO) -> None:
        content = source.read()
        time.sleep(self.server.silent)
        if self.server.cut and self.path.endswith(self.server.cut):
            self.server.asked += 1
            content = content[: len(content) // 2]
        outputfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


def test_shards_come_over_http(files: FileSource, server: Server, tmp_path: Path) -> None:
    """Fetched in loading processes, too, though their parent has fetched before the fork."""
    source = shards(root=server.url, split="train", cache=tmp_path / "cache")
    source.read(0)

    def batches(of: Source, workers: int) -> list[bytes]:
        module = SegmentationDataModule(lambda split: of, {"train": "s"}, batch_size=1, num_workers=workers)
        return [batch["image"].numpy().tobytes() for batch in module.train_dataloader()]

    assert batches(source, 2) == batches(files, 0)
    _same(source, files)
    left = {path.suffix for path in (tmp_path / "cache").iterdir()}
    assert left == {".tar", ".npz", ".json", ".lock"}


def test_a_server_that_dies_or_cuts_ends_in_a_sentence_and_leaves_no_half_file(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.data.shards.download_cache._PAUSE", 0)
    url, cache = server.url, tmp_path / "cache"
    source = shards(root=url, split="train", cache=cache)
    before = {path.name for path in cache.iterdir()}
    for told, why in ((True, "not enough data"), (False, r"\d+ of \d+ bytes came")):
        server.cut, server.told, server.asked = "-000000.tar", told, 0
        with pytest.raises(UserError, match=rf"(?i)^{url}/train-000000\.tar: cannot be fetched \(.*{why}.*network"):
            source.read(0)
        assert server.asked == 3
    for told, why in ((True, "not enough data"), (False, "not a whole index")):
        server.cut, server.told = ".json", told
        with pytest.raises(UserError, match=rf"(?i)^{url}/train\.json: cannot be fetched \(.*{why}"):
            shards(root=url, split="train", cache=cache)
    server.silent = 2.0
    monkeypatch.setattr("src.data.shards.download_cache._SILENCE", 0.1)
    with pytest.raises(UserError, match=r"train\.json: cannot be fetched \(.*(?i:timeout).*network"):
        shards(root=url, split="train", cache=cache)
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError, match=rf"^{url}/train-000001\.tar: cannot be fetched \(.*connect.*network"):
        source.read(int(source.shard_ends[0]))
    assert {path.name for path in cache.iterdir() if path.suffix != ".lock"} == before


def test_a_disk_that_fills_up_is_not_taken_for_the_network(folder: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    source = shards(root=f"file://{folder}", split="train", cache=tmp_path / "cache")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(
            UserError, match=rf"^{tmp_path}/cache: the disk is full \(File too large; .*data\.cache="
        ) as end:
            source.read(0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "network" not in str(end.value)
    assert not list((tmp_path / "cache").glob("*.tar*")) + list((tmp_path / "cache").glob(".*"))
    source.read(0)


@pytest.mark.slow
def test_a_loading_process_that_is_killed_ends_the_run_with_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Dying(ShardSource):
        def read(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
            if multiprocessing.parent_process() and index == 5:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().read(index)

    source, seen = Dying(ShardIndex.load(folder / "train.json"), folder), []

    def task(cfg) -> None:
        module = SegmentationDataModule(lambda split: source, {"train": "s"}, batch_size=1, num_workers=2)
        seen.extend(batch["name"] for batch in module.train_dataloader())

    with pytest.raises(SystemExit) as ending:
        call("shards", f"out={folder}", task=task)
    assert ending.value.code == 1
    assert len(seen) < COUNT
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(lines) == 1
    assert "was killed" in lines[0]
    assert "resume=last" in lines[0]


def test_the_command_writes_what_data_shards_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toy = ["data=toy_streets", "data.size=[32,64]", "data.length={train: 5, val: 2, test: 1}"]
    monkeypatch.chdir(tmp_path)
    call("shards", *toy, "out=here", "shard_mb=0.01")
    out = capsys.readouterr().out
    assert "train: 5 samples in" in out
    assert "data=shards data.root=here 'data.mean=[0.45, 0.45, 0.45]'" in out
    _same(shards(root="here", split="train"), ToyStreets(split="train", length=5, height=32, width=64))
    _same(shards(root="here", split="val"), ToyStreets(split="val", length=2, height=32, width=64))
    with pytest.raises(SystemExit):
        call("shards", *toy, "out=here", "shard_mb=0")
    assert "error: shard_mb=0 must be" in capsys.readouterr().err


_MEMORY = """
import resource, sys
from pathlib import Path
import numpy as np
from src.data.label_space import LabelSpace
from src.data.shards.writer import write_shards
from src.data.shards.source import shards
from src.data.source import Source

class Noise(Source):
    label_space = LabelSpace(["a", "b"], [(1, 1, 1), (2, 2, 2)])
    def __init__(self, count): self.count = count
    def __len__(self): return self.count
    def name(self, index): return f"noise_{index}"
    def size(self, index): return 32, 32
    def read(self, index):
        noise = np.random.default_rng(index)
        return noise.integers(0, 256, (32, 32, 3), np.uint8), noise.integers(0, 2, (32, 32), np.uint8)

def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def both(count, folder):
    noise = Noise(count)
    index = write_shards(noise, Path(folder), split="train", shard_mb=8)
    written = peak()
    source = shards(root=folder, split="train")
    for i in np.random.default_rng(0).permutation(count).tolist():
        image, label = source.read(i)
        if i % 100 == 0:
            assert all(np.array_equal(a, b) for a, b in zip((image, label), noise.read(i)))
    assert index.samples == len(source) == count
    return written, peak(), sum(shard.bytes for shard in index.shards) / 1e6

few = both(500, sys.argv[1])[1]
written, read, size = both(10_000, sys.argv[2])
print(few, written, read, size)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_ten_thousand_samples(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _MEMORY, tmp_path / "few", tmp_path / "many"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=1200,
        check=True,
    )
    few, written, read, size = map(float, done.stdout.split())
    assert size > 60  # MB of shards
    assert max(written, read) - few < 20, f"peak memory in MB: 500 samples {few}, 10,000 {written} and {read}"


def test_shards_of_others_and_a_second_writer_are_refused(files: FileSource, tmp_path: Path) -> None:
    (tmp_path / "train-000000.tar").write_bytes(b"of somebody else")
    with pytest.raises(UserError, match=r"train-000000\.tar: is there without an index train\.json"):
        write_shards(files, tmp_path, split="train")
    assert (tmp_path / "train-000000.tar").read_bytes() == b"of somebody else"
    with locked(tmp_path, "writing to it"), pytest.raises(UserError, match="another process is writing to it"):
        write_shards(files, tmp_path, split="val")


def test_a_full_disk_leaves_no_part_of_a_shard(files: FileSource, tmp_path: Path) -> None:
    with files_of_at_most(4000), pytest.raises(UserError, match=r"train-000000\.tar: cannot be written .*resumes"):
        write_shards(files, tmp_path, split="train")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.json"]
    assert write_shards(files, tmp_path, split="train").complete
