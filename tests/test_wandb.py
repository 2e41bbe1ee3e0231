"""An offline run of wandb, its file read back: scalars, summary, pictures with masks, tables, config, group, id."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from src.commands.train import train
from src.loggers.wandb import wandb_logger
from tests.conftest import ROOT
from tests.test_training import PLAIN, SMALL

wandb = pytest.importorskip("wandb")

TINY = ["model.net.width_multiplier=0.25", "trainer.limit_val_batches=1.0", "data.length={train: 4, val: 3, test: 2}"]
BLOCK = 32768


def _records(folder: Path) -> Iterator[Any]:
    """What a run's file holds: blocks of records as LevelDB logs them, each with checksum, length, kind and content."""
    from wandb.proto.wandb_internal_pb2 import Record

    data = next(folder.glob("*.wandb")).read_bytes()
    assert data[:4] in (b":W&B", b"")
    place, content = 7, b""
    while place + 7 <= len(data):
        room = BLOCK - place % BLOCK
        if room < 7:
            place += room
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        if place + 7 + length > len(data):
            return  # its end is not written yet
        content += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(content)
            yield record
            content = b""


def _history(records: list[Any]) -> list[dict[str, Any]]:
    rows = []
    for record in records:
        if record.WhichOneof("record_type") == "history":
            row: dict[str, Any] = {}
            for item in record.history.item:
                name, *rest = [*item.nested_key] or [item.key]
                value = json.loads(item.value_json)
                if rest:
                    row.setdefault(name, {})[".".join(rest)] = value
                else:
                    row[name] = value
            rows.append(row)
    return rows


def _updates(records: list[Any], kind: str) -> dict[str, Any]:
    """Config or summary as it is at the end."""
    found = {}
    for record in records:
        if record.WhichOneof("record_type") == kind:
            for item in getattr(record, kind).update:
                found[".".join([*item.nested_key] or [item.key])] = json.loads(item.value_json)
    return found


def test_a_trial_of_a_sweep_has_its_own_name_in_the_sweeps_group_and_other_processes_send_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the environment tells it that the driver gives to each trial."""
    from pytorch_lightning.utilities.rank_zero import rank_zero_only

    for name, value in {"MODE": "offline", "SILENT": "true", "NAME": "00_sum_seed1", "RUN_GROUP": "ablation"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    with monkeypatch.context() as patch:
        patch.setattr(rank_zero_only, "rank", 1)
        other = wandb_logger("semseg", "net_data", str(tmp_path / "other"))
        other.log_metrics({"train/loss": 1.0}, step=1)
        other.log_best(0.5)
    with monkeypatch.context() as patch:
        patch.setenv("NODE_RANK", "1")
        wandb_logger("semseg", "net_data", str(tmp_path / "other"))
    assert wandb.run is None and not (tmp_path / "other").exists()
    wandb_logger("semseg", "net_data", str(tmp_path)).close()
    folder, deadline, starts = next((tmp_path / "wandb").glob("offline-run-*")), time.monotonic() + 60, []
    while not starts and time.monotonic() < deadline:  # wandb's own process may write a little after the run's end
        starts = [record.run for record in _records(folder) if record.WhichOneof("record_type") == "run"]
    (start,) = starts
    assert (start.display_name, start.run_group) == ("00_sum_seed1", "ablation")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[list[Any]]]]:
    """A run of two epochs, resumed for a third with a rate that spoils it: its folder, and the records of each part."""
    folder = tmp_path_factory.mktemp("wandb") / "run"
    options = [*SMALL, *PLAIN, *TINY, "logger=wandb", "callbacks.panels={_target_: src.callbacks.Panels, run_dir: "
               f"'{folder}', count: 2}}", f"run_dir={folder}"]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        patch.setattr("src.reports.console.draw_scores", lambda *_: None)
        train(compose("train", overrides=[*options, "trainer.max_epochs=2", "logger.wandb.group=ablation"]))
        more = [f"ckpt_path={folder}/checkpoints/last.ckpt", "trainer.max_epochs=3", "logger.wandb.group=ablation"]
        train(compose("train", overrides=[*options, *more]))
    assert wandb.run is None  # each training ended its own
    parts = sorted((folder / "wandb").glob("offline-run-*"), key=lambda path: path.stat().st_mtime)
    yield folder, [list(_records(part)) for part in parts]


def test_a_resumed_run_keeps_id_and_group(runs) -> None:
    folder, parts = runs
    starts = [record.run for part in parts for record in part if record.WhichOneof("record_type") == "run"]
    assert len(parts) == 2
    assert {start.run_id for start in starts} == {(folder / "wandb_id.txt").read_text()}
    assert {start.run_group for start in starts} == {"ablation"}


def test_scalars_and_config_arrive_and_the_summary_has_the_best(runs) -> None:
    _, parts = runs
    rows = [row for part in parts for row in _history(part)]
    names = {name for row in rows for name in row}
    assert {"train/loss", "lr/net", "train/images_per_second", "train/data_wait", "val/miou", "val/iou/sky"} <= names
    assert {"test/miou", "test/iou/sky"} <= names
    miou = [row["val/miou"] for row in rows if "val/miou" in row]
    assert [row["trainer/global_step"] for row in rows if "val/miou" in row] == [0, 1, 2]
    assert _updates(parts[0], "summary")["val/miou"] == pytest.approx(max(miou[:2]))
    assert _updates(parts[1], "summary")["val/miou"] == pytest.approx(max(miou))
    assert _updates(parts[0], "config")["optimizer"]["lr"] > 0


def test_images_have_masks_of_truth_and_prediction_with_the_names_of_classes(runs) -> None:
    folder, parts = runs
    rows = [row["val/images"] for row in _history(parts[0]) if "val/images" in row]
    assert [row["count"] for row in rows] == [2, 2]
    assert rows[0]["captions"] == rows[1]["captions"]  # the same images each time
    part = sorted((folder / "wandb").glob("offline-run-*"))[0]
    masks = rows[0]["all_masks"]
    assert [set(mask) for mask in masks] == [{"truth", "prediction"}] * 2
    truth = cv2.imread(str(part / "files" / masks[0]["truth"]["path"]), cv2.IMREAD_UNCHANGED)
    assert truth.shape[:2] == (32, 64) and len(np.unique(truth)) > 2
    labels = json.dumps(_updates(parts[0], "config")["_wandb"])
    assert '"255": "ignored"' in labels and '"bicyclist"' in labels
    panels = [row["val/panels"] for row in _history(parts[0]) if "val/panels" in row]
    assert cv2.imread(str(part / "files" / panels[-1]["path"])) is not None


def test_tables_hold_classes_and_confusions(runs) -> None:
    folder, parts = runs
    files = sorted((folder / "wandb").glob("offline-run-*"))[1] / "files"
    entries = [(name, value) for row in _history(parts[1]) for name, value in row.items() if isinstance(value, dict)]
    tables = {name: _table(files / value["path"]) for name, value in entries if value.get("_type") == "table-file"}
    assert tables.keys() == {"val/classes", "val/confusion_table", "test/classes", "test/confusion_table"}
    scores = json.loads((folder / "scores_test.json").read_text())
    assert {row[0]: row[1] for row in tables["test/classes"]} == scores["iou"]
    pixels = sum(row[2] for row in tables["test/confusion_table"])
    assert pixels == sum(map(sum, scores["confusion_matrix"]))


def _table(path: Path) -> list[list[Any]]:
    return json.loads(path.read_text())["data"]
