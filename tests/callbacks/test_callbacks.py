"""Callbacks around one tiny real run on the CPU, and their parts with hand-made scores."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from src.callbacks import (
    Charts,
    Dashboards,
    History,
    Panels,
    Progress,
    Throughput,
    throughput,
)
from src.callbacks.worst_images import draw_lowest, draw_worst
from src.data.label_space import LabelSpace, distinct_colors
from src.loggers.run_logger import RunLogger
from src.metrics import PerImage, Scores
from src.reports.png_charts import draw_curves, draw_scores
from src.reports.scores_file import write_scores
from src.reports.summary_table import summary_table

SPACE = LabelSpace(names=["road", "car", "sky"], colors=[(128, 64, 128), (0, 0, 142), (70, 130, 180)])
MATRIX = torch.tensor([[80, 20, 0], [10, 40, 0], [0, 0, 0]])  # IoU 80/110, 40/70, none


class Scenes(Dataset):
    def __init__(self, length: int) -> None:
        self.length = length
        self.read: list[int] = []

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.read.append(index)
        random = torch.Generator().manual_seed(index)
        label = torch.randint(0, 2, (8, 12), generator=random, dtype=torch.uint8)
        return {"image": (label * 200).expand(3, 8, 12).clone(), "label": label, "name": f"scene_{index}"}


class Data(pl.LightningDataModule):
    def __init__(self) -> None:
        super().__init__()
        self.train_dataset, self.val_dataset = Scenes(12), Scenes(9)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train_dataset, batch_size=2)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.val_dataset, batch_size=3)


class Net(pl.LightningModule):
    """A 1x1 convolution with the surface that callbacks rely on."""

    label_space = SPACE

    def __init__(self, fail_at: int | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        with torch.no_grad():
            self.conv.bias[2] = -100.0  # the third class is never predicted
        self.fail_at = fail_at
        self.pairs: list[tuple[Tensor, Tensor]] = []

    def predict_label(self, image: Tensor) -> Tensor:
        return self.conv(image / 255).argmax(1).to(torch.uint8)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        if self.global_step == self.fail_at:
            raise RuntimeError("killed")
        loss = nn.functional.cross_entropy(self.conv(batch["image"] / 255), batch["label"].long())
        self.log_dict({"train/loss": loss, "lr/head": 0.01})
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.pairs.append((batch["label"], self.predict_label(batch["image"])))

    def on_validation_epoch_end(self) -> None:
        matrix = torch.zeros(3, 3, dtype=torch.int64)
        for label, prediction in self.pairs:
            matrix += torch.bincount(3 * label.long().flatten() + prediction.flatten(), minlength=9).view(3, 3)
        self.pairs.clear()
        matrix[2, 2] += self.current_epoch == 0  # the third class occurs in the first epoch only
        self.val_scores = Scores(matrix)
        self.log_dict({"val/miou": self.val_scores.miou, "val/pixel_accuracy": self.val_scores.pixel_accuracy})
        for index in {0, 1, 2} - {*self.val_scores.absent}:
            self.log(f"val/iou/{SPACE.names[index]}", float(self.val_scores.iou[index]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def _fit(
    callbacks: Sequence[pl.Callback],
    folder: Path,
    *,
    epochs: int = 2,
    module: Net | None = None,
    resume: Path | None = None,
    **options: Any,
) -> pl.Trainer:
    torch.manual_seed(0)
    trainer = pl.Trainer(
        max_epochs=epochs,
        log_every_n_steps=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=any(isinstance(callback, Progress) for callback in callbacks),
        default_root_dir=folder,
        callbacks=list(callbacks),
        **options,
    )
    trainer.fit(module or Net(), Data(), ckpt_path=resume)
    return trainer


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _picture(path: Path) -> np.ndarray:
    return cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR_RGB)


def _shows(picture: np.ndarray, color: Sequence[int]) -> bool:
    return bool((picture == color).all(-1).any())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("run")
    speed = Throughput()
    trainer = _fit([speed, History(folder), Charts(folder), Panels(folder)], folder, num_sanity_val_steps=1)
    return SimpleNamespace(folder=folder, speed=speed, trainer=trainer)


def test_history_has_a_row_every_n_steps_and_one_per_validation(run: SimpleNamespace) -> None:
    rows = _rows(run.folder)
    assert [(row["step"], row["epoch"], row["val/miou"] != "") for row in rows] == [
        ("2", "0", False), ("4", "0", False), ("6", "0", False), ("6", "0", True),
        ("8", "1", False), ("10", "1", False), ("12", "1", False), ("12", "1", True),
    ]  # fmt: skip
    assert list(rows[0])[:2] == ["step", "epoch"]
    assert all(float(row["train/loss"]) > 0 and row["lr/head"] == "0.01" for row in rows)
    assert float(rows[-1]["val/miou"]) == pytest.approx(run.trainer.lightning_module.val_scores.miou, rel=1e-5)


def test_history_keeps_no_class_score_of_an_earlier_epoch(run: SimpleNamespace) -> None:
    first, second = (row["val/iou/sky"] for row in _rows(run.folder) if row["val/miou"])
    assert (first, second) == ("1", "")


def test_history_survives_a_crash(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        _fit([History(tmp_path)], tmp_path, module=Net(fail_at=5))
    assert [row["step"] for row in _rows(tmp_path)] == ["2", "4"]


def test_history_drops_rows_past_the_resumed_step_and_goes_on(tmp_path: Path) -> None:
    _fit([History(tmp_path)], tmp_path, epochs=1).save_checkpoint(tmp_path / "one.ckpt")
    _fit([History(tmp_path)], tmp_path, epochs=3, resume=tmp_path / "one.ckpt")
    assert _rows(tmp_path)[-1]["step"] == "18"
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("20,3,0.1")  # cut short by a kill
    _fit([History(tmp_path)], tmp_path, epochs=2, resume=tmp_path / "one.ckpt")
    assert [row["step"] for row in _rows(tmp_path)] == ["2", "4", "6", "6", "8", "10", "12", "12"]


def test_history_of_a_fresh_run_begins_anew_and_counts_accumulated_batches_once(tmp_path: Path) -> None:
    _fit([History(tmp_path)], tmp_path, epochs=2)
    _fit([History(tmp_path)], tmp_path, epochs=2, accumulate_grad_batches=3)
    rows = _rows(tmp_path)
    assert [(row["step"], row["val/miou"] != "") for row in rows] == [
        ("2", False), ("2", True), ("4", False), ("4", True)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "kept", "words"),
    [
        (b"", [], "is no history of a run; it is kept as metrics_unreadable.csv"),
        (b"a,b\n1,2\n", [], "is no history of a run"),
        (b"\xff\xfe\x00", [], "is no history of a run"),
        (b"step,epoch,a\n1,0,5\nx,0,5\n2,,5\n3,0\n4,0,7\n", ["1", "4"], "3 rows cannot be read"),
    ],
)
def test_history_that_cannot_be_read_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, kept: list[str], words: str
) -> None:
    (tmp_path / "metrics.csv").write_bytes(content)
    History(tmp_path).on_train_start(SimpleNamespace(global_step=9, is_global_zero=True), None)
    assert [row["step"] for row in _rows(tmp_path)] == kept
    assert words in capsys.readouterr().out
    if not kept:
        assert (tmp_path / "metrics_unreadable.csv").read_bytes() == content


def test_history_on_a_full_disk_names_its_file(tmp_path: Path) -> None:
    history, metrics = History(tmp_path), {"loss": torch.tensor(1.0)}
    trainer = SimpleNamespace(
        global_step=1, current_epoch=0, is_global_zero=True, log_every_n_steps=1, callback_metrics=metrics
    )
    history.path.write_text("step,epoch,loss\n0,0,1\n")
    trainer.global_step = 0
    history.on_train_start(trainer, None)
    history.path.unlink()
    history.path.symlink_to("/dev/full")
    trainer.global_step = 1
    with pytest.raises(OSError, match="No space left") as error:
        history.on_train_batch_end(trainer, None, None, None, 0)
    assert error.value.filename == str(tmp_path / "metrics.csv")


def test_charts_are_drawn_after_each_validation(run: SimpleNamespace) -> None:
    pictures = sorted(path.name for path in (run.folder / "charts").iterdir())
    assert pictures == ["confusion_matrix.png", "learning_curves.png", "per_class_iou.png"]
    assert _picture(run.folder / "charts" / "learning_curves.png").shape == (560, 1200, 3)


def test_curves_need_no_more_than_one_validation(tmp_path: Path) -> None:
    for accuracy in ("0.5", "nan"):
        (tmp_path / "metrics.csv").write_text(f"step,epoch,val/miou,val/pixel_accuracy\n4,0,nan,{accuracy}\n")
        draw_curves(tmp_path / "metrics.csv", tmp_path / accuracy)
    one, none = (_picture(tmp_path / name / "learning_curves.png") for name in ("0.5", "nan"))
    assert one.shape == none.shape
    assert not np.array_equal(one, none), "the only point is drawn"


@pytest.mark.parametrize("count", [1, 5, pytest.param(150, marks=pytest.mark.slow)])
def test_scores_are_drawn_for_few_and_many_classes(count: int, tmp_path: Path) -> None:
    space = LabelSpace(names=[f"class {i}" for i in range(count)], colors=distinct_colors(count))
    matrix = torch.randint(1, 100, (count, count)) + 5000 * torch.eye(count, dtype=torch.int64)
    draw_scores(Scores(matrix), space, tmp_path)
    bars, matrix = _picture(tmp_path / "per_class_iou.png"), _picture(tmp_path / "confusion_matrix.png")
    assert _shows(bars, space.colors[0]) and _shows(bars, space.colors[-1])
    assert 3 * count < min(matrix.shape[:2])


def test_class_names_are_no_formulas(tmp_path: Path) -> None:
    names = ["$a_$", "$x^2$", r"\\frac{"]
    draw_scores(Scores(MATRIX), LabelSpace(names=names, colors=SPACE.colors), tmp_path / "odd")
    bars = _picture(tmp_path / "odd/per_class_iou.png")
    assert _shows(bars, SPACE.colors[0]) and _shows(bars, SPACE.colors[1])


@pytest.mark.parametrize("broken", ["draw_scores", "draw_curves"])
def test_charts_that_cannot_be_drawn_end_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], broken: str
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device", "x.png")

    monkeypatch.setattr(f"src.callbacks.charts.{broken}", fail)
    _fit([History(tmp_path), Charts(tmp_path)], tmp_path, epochs=1)
    assert f"note: {tmp_path / 'charts'}: not written ([Errno 28] No space left" in capsys.readouterr().out


def _worst(folder: Path, names: list[str], classes: list[str]) -> None:
    """Pictures of two images, both wrong everywhere."""
    space = LabelSpace(names=classes, colors=distinct_colors(len(classes)))
    samples = [
        {"image": torch.zeros(3, 8, 8, dtype=torch.uint8), "label": torch.zeros(8, 8, dtype=torch.uint8), "name": name}
        for name in names
    ]
    source = SimpleNamespace(name=lambda index: names[index])
    trainer = SimpleNamespace(
        is_global_zero=True, global_rank=0, world_size=1, strategy=SimpleNamespace(barrier=lambda: None),
        test_dataloaders=SimpleNamespace(dataset=_Listed(samples, source)),
        precision_plugin=SimpleNamespace(test_step_context=contextlib.nullcontext),
    )  # fmt: skip
    module = SimpleNamespace(
        label_space=space, device="cpu", predict_label=lambda image: torch.ones(1, 8, 8, dtype=torch.uint8)
    )
    images, matrix = PerImage(len(classes)), torch.zeros(len(classes), len(classes), dtype=torch.int64)
    matrix[0, 1] = 64
    for name in names:
        images.add(name, matrix)
    draw_worst(trainer, module, images, 2, folder / "worst")
    draw_lowest(trainer, module, images, 2, folder / "worst_images")


class _Listed(list):
    def __init__(self, samples: list[dict[str, Any]], source: Any) -> None:
        super().__init__(samples)
        self.source = source


def test_the_worst_images_are_drawn_whatever_their_names(tmp_path: Path) -> None:
    _worst(tmp_path, ["道" * 80, "a/" + "路" * 80 + ".png"], ["..", "."])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["worst", "worst_images"]
    assert sorted(path.name for path in (tmp_path / "worst").iterdir()) == ["0__", "1__"]
    pictures = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(pictures) == 6
    assert all(path.suffix == ".png" and len(path.name.encode()) <= 255 for path in pictures)


def test_worst_images_that_cannot_be_written_end_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "worst").write_text("a file")
    _worst(tmp_path, ["a", "b"], ["x", "y"])
    assert f"note: {tmp_path / 'worst'}: not written (" in capsys.readouterr().out
    assert len([*(tmp_path / "worst_images").iterdir()]) == 2


def test_bars_grey_out_absent_classes(tmp_path: Path) -> None:
    draw_scores(Scores(MATRIX), SPACE, tmp_path)
    bars = _picture(tmp_path / "per_class_iou.png")
    assert [_shows(bars, color) for color in SPACE.colors] == [True, True, False]


def test_scores_without_a_single_pixel_can_be_drawn_written_and_printed(tmp_path: Path) -> None:
    nothing = Scores(torch.zeros(3, 3, dtype=torch.int64))
    draw_scores(nothing, SPACE, tmp_path)
    write_scores(nothing, SPACE, tmp_path / "scores.json")
    assert json.loads((tmp_path / "scores.json").read_text())["miou"] is None
    assert "over 0 of 3 classes" in summary_table(nothing, SPACE, seconds=1, images_per_second=1, paths={})


def test_panels_show_the_same_images_each_epoch(run: SimpleNamespace) -> None:
    folder = run.folder / "panels"
    assert sorted(path.name for path in folder.iterdir()) == ["epoch_000.png", "epoch_001.png", "latest.png"]
    first, second = _picture(folder / "epoch_000.png"), _picture(folder / "epoch_001.png")
    assert (second == _picture(folder / "latest.png")).all()
    column = slice(0, 400)  # image column below the title: nothing in it depends on the net
    assert (first[40:-40, column] == second[40:-40, column]).all()


def test_panels_spread_over_the_data_set(tmp_path: Path) -> None:
    data = Data()
    trainer = SimpleNamespace(
        is_global_zero=True,
        sanity_checking=False,
        state=SimpleNamespace(fn="fit"),
        current_epoch=7,
        datamodule=data,
        precision_plugin=pl.plugins.Precision(),
    )
    module = Net()
    module.val_scores = Scores(MATRIX)
    for count, expected in ((3, [0, 4, 8]), (1, [0]), (20, list(range(9)))):
        panels = Panels(tmp_path, count=count)
        data.val_dataset.read.clear()
        panels.on_validation_epoch_start(trainer, module)
        panels.on_validation_end(trainer, module)
        assert data.val_dataset.read == expected
    assert (tmp_path / "panels" / "epoch_007.png").exists()


def test_progress_prints_lines_where_there_is_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _fit([Throughput(), Progress()], tmp_path, num_sanity_val_steps=1)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert all("\r" not in line for line in lines) and 4 <= len(lines) <= 6
    last_step, last_validation = lines[-2:]
    for part in (
        "epoch 1",
        "step 12/12",
        "loss ",
        "lr 1.00e-02",
        "images/s",
        "data wait",
        "ETA 0:00:00",
        "mIoU",
        "best",
    ):
        assert part in last_step
    assert last_validation.startswith("epoch 1  validation  mIoU")


def test_progress_of_a_run_that_counts_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _fit([Progress()], tmp_path, epochs=-1, max_steps=8)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert "step 8/8" in lines[-1]


def test_progress_draws_a_bar_on_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    _fit([Progress()], tmp_path)
    shown = capsys.readouterr().out
    assert "\rEpoch 1: 100%" in shown and "step=12/12" in shown and "best=" in shown and "v_num" not in shown


def test_progress_remembers_the_best_score_over_a_resume() -> None:
    before, after = Progress(), Progress()
    before.load_state_dict({"last_miou": 0.25, "best_miou": 0.5})
    after.load_state_dict(before.state_dict())
    trainer = SimpleNamespace(callback_metrics={}, global_step=3)
    assert after.get_metrics(trainer, None) == {"step": "3", "mIoU": "25.00", "best": "50.00"}


def test_throughput_counts_training_only_and_no_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(throughput, "time", SimpleNamespace(perf_counter=lambda: now))
    logged: dict[str, float] = {}
    module = SimpleNamespace(log=logged.__setitem__, device=torch.device("cpu"))
    trainer = SimpleNamespace(world_size=2, log_every_n_steps=2, is_last_batch=False, global_step=0)
    batch, speed = {"image": torch.zeros(4, 3, 2, 2)}, Throughput()
    speed.on_train_start(trainer, module)
    speed.on_train_epoch_start(trainer, module)
    # seconds of waiting and of computing; the first step warms up, the last follows a validation
    for index, (wait, step) in enumerate([(100, 50), (1, 3), (2, 2), (1000, 12)]):
        if index == 3:
            speed.on_validation_start(trainer, module)
        now += wait
        speed.on_train_batch_start(trainer, module, batch, index)
        now += step
        trainer.global_step += 1
        speed.on_train_batch_end(trainer, module, None, batch, index)
        if index == 1:
            assert logged == {"train/images_per_second": 2.0, "train/data_wait": 0.25}
    speed.on_train_end(trainer, module)
    assert logged == {"train/images_per_second": 1.0, "train/data_wait": 0.125}  # 16 images in 16 s, 2 of them waiting
    assert speed.images_per_second == 1.2 and speed.seconds == now


def test_throughput_reaches_the_logger_as_often_as_the_loss(tmp_path: Path) -> None:
    """Also in later epochs, of a length that ``log_every_n_steps`` does not divide, and with accumulated batches."""

    class Noted(pl.loggers.CSVLogger):
        def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
            rows.append({**metrics, "step": step})

    for options in ({}, {"accumulate_grad_batches": 2}):
        rows: list[dict[str, Any]] = []
        torch.manual_seed(0)
        trainer = pl.Trainer(
            max_epochs=3, log_every_n_steps=4, accelerator="cpu", logger=Noted(tmp_path), callbacks=[Throughput()],
            enable_checkpointing=False, enable_model_summary=False, enable_progress_bar=False, **options,
        )  # fmt: skip
        trainer.fit(Net(), Data())
        told = {name: {row["step"] for row in rows if name in row} for name in ("train/loss", "train/data_wait")}
        assert told["train/loss"] and told["train/data_wait"] == told["train/loss"]
        assert {row["step"] for row in rows if "train/images_per_second" in row} == told["train/loss"]


def test_memory_is_logged_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * 2**30)
    logged: dict[str, float] = {}
    module = SimpleNamespace(log=logged.__setitem__, device=torch.device("cuda", 1))
    trainer = SimpleNamespace(world_size=1, log_every_n_steps=1, is_last_batch=False, global_step=0)
    speed, batch = Throughput(), {"image": torch.zeros(4, 3, 2, 2)}
    for index in range(2):
        speed.on_train_batch_start(trainer, module, batch, index)
        trainer.global_step += 1
        speed.on_train_batch_end(trainer, module, None, batch, index)
    assert logged["train/peak_memory_gb"] == 3.0


def test_throughput_of_a_real_run_is_logged(run: SimpleNamespace) -> None:
    last = _rows(run.folder)[-1]
    assert float(last["train/images_per_second"]) > 0 and 0 <= float(last["train/data_wait"]) <= 1
    assert run.speed.images_per_second > 0 and run.speed.seconds > 0


def test_summary_table_says_everything_aligned() -> None:
    table = summary_table(
        Scores(MATRIX), SPACE, seconds=3723, images_per_second=12.34, paths={"checkpoint": Path("runs/a/best.ckpt")}
    )
    lines = table.splitlines()
    road, car, sky = (next(line for line in lines if line.startswith(f" {name}")) for name in SPACE.names)
    assert "72.73" in road and "66.67" in road and "57.14" in car and "–" in sky
    assert len(road) == len(car) == len(sky) == len(lines[1]) == len(lines[0]) - 1
    assert road.count("█") == 17 and car.count("█") == 13  # of 24
    for part in ("64.94  over 2 of 3 classes", "80.00", "left out of the mean: sky", "1:02:03", "12.3 images/s"):
        assert part in table
    assert "runs/a/best.ckpt" in table
    quiet = summary_table(Scores(MATRIX), SPACE, seconds=1, images_per_second=float("nan"), paths={})
    assert "throughput" not in quiet


def test_written_scores_hold_every_figure(tmp_path: Path) -> None:
    write_scores(Scores(MATRIX), SPACE, tmp_path / "scores.json")
    content = json.loads((tmp_path / "scores.json").read_text())
    assert content["iou"] == {"road": pytest.approx(80 / 110), "car": pytest.approx(40 / 70), "sky": None}
    assert content["absent"] == ["sky"] and content["confusion_matrix"] == MATRIX.tolist()
    assert content["pixel_accuracy"] == pytest.approx(0.8) and content["truth_share"]["car"] == pytest.approx(1 / 3)
    assert [path.name for path in tmp_path.iterdir()] == ["scores.json"]


def test_dashboards_that_fail_end_nothing_and_say_so_once(
    run: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(pl.loggers.CSVLogger, RunLogger):
        def log_best(self, miou: float) -> None:
            raise OSError("no\nserver")

        log_scores = log_config = log_pictures = log_best

    module = run.trainer.lightning_module
    state = {"is_global_zero": True, "state": SimpleNamespace(fn="fit"), "sanity_checking": False, "callbacks": []}
    trainer = SimpleNamespace(loggers=[Broken(tmp_path)], global_step=1, **state)
    dashboards = Dashboards(tmp_path)
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    dashboards.on_fit_start(trainer, module)
    for _ in range(2):
        dashboards.on_validation_end(trainer, module)
    assert capsys.readouterr().out == "Broken: pictures not sent (no server); the run goes on\n"
    again = Dashboards(tmp_path)
    again.load_state_dict(dashboards.state_dict())
    assert again.state_dict() == {"best": module.val_scores.miou}


def test_tensorboard_gets_the_pictures(run: SimpleNamespace, tmp_path: Path) -> None:
    event_file = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logger = pl.loggers.TensorBoardLogger(tmp_path)
    state = {"is_global_zero": True, "state": SimpleNamespace(fn="fit"), "sanity_checking": False, "callbacks": []}
    trainer = SimpleNamespace(loggers=[logger], global_step=12, **state)
    Dashboards(run.folder).on_validation_end(trainer, run.trainer.lightning_module)
    logger.finalize("success")
    found = event_file.EventAccumulator(logger.log_dir)
    found.Reload()
    assert set(found.Tags()["images"]) == {"val/panels", "val/confusion_matrix", "val/iou_of_classes"}
    picture = found.Images("val/panels")[0]
    latest = _picture(run.folder / "panels" / "latest.png")
    assert (picture.step, picture.height, picture.width) == (12, *latest.shape[:2])
