"""Speed as it is measured: every kind of run, in turn, with what stands beside the figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from src.build.validate import check_options
from src.commands import benchmark
from src.errors import UserError
from src.models import BiSeNetV2
from src.profiling.model_cost import multiply_adds
from tests.conftest import ROOT

SMALL = ["model=bisenetv2", "model.net.width_multiplier=0.25", "model.net.head_channels=16", "data.num_classes=5"]


def _benchmark(*overrides: str) -> list[dict]:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("benchmark", overrides=[*SMALL, "size=[64,96]", "device=cpu", *overrides])
    check_options("benchmark", cfg)
    return benchmark.benchmark(cfg)


def test_every_kind_is_measured_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    order: list[tuple[torch.dtype, bool, int]] = []
    decode = BiSeNetV2.decode

    def noted(net: nn.Module, image: torch.Tensor) -> dict[str, torch.Tensor]:
        if not image.is_meta:
            order.append((image.dtype, image.is_contiguous(memory_format=torch.channels_last), image.shape[0]))
        return decode(net, image)

    monkeypatch.setattr(BiSeNetV2, "decode", noted)
    given = ["mode=[eager,channels_last]", "precision=[fp32,bf16]", "batch_size=[1,2]", "repeats=2", "warmup=1"]
    rows = _benchmark(*given, f"out={tmp_path}")
    assert [(row["kind"], row["batch_size"]) for row in rows] == [
        (f"{mode}, {precision}", count)
        for precision in ("fp32", "bf16")
        for mode in ("eager", "channels_last")
        for count in (1, 2)
    ]
    kinds = [
        (dtype, last, count) for dtype in (torch.float32, torch.bfloat16) for last in (False, True) for count in (1, 2)
    ]
    assert order == kinds * 4  # warm-up, two that count, memory
    for row in rows:
        times = row["times"]
        assert times.keys() == {"all", "pre", "net", "post"}
        assert all(0 < each["median_ms"] <= each["p95_ms"] for each in times.values())
        assert times["all"]["median_ms"] >= times["net"]["median_ms"]
        assert row["images_per_second"] == pytest.approx(1000 * row["batch_size"] / times["all"]["median_ms"])
        assert row["floor_ms"] > 0
    saved = json.loads((tmp_path / "benchmark.json").read_text())
    assert saved["rows"] == rows
    assert saved["environment"]["packages"]["torch"] in (said := capsys.readouterr().out)
    assert f"{saved['multiply_adds'] / 1e9:.2f} G multiply-adds" in said


class _OneConvolution(nn.Module):
    in_channels = 3

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)

    def decode(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.conv(image)}


def test_costs_are_counted_and_not_computed() -> None:
    net = _OneConvolution()
    macs, outputs = multiply_adds(net, [64, 96])
    assert macs == 64 * 96 * 3 * 4 * 9
    assert outputs["logits"].is_meta and outputs["logits"].shape == (1, 4, 64, 96)
    assert not net.conv.weight.is_meta


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["mode=[eager,compiled]"], r"mode=.*Did you mean 'compile'"),
        (["precision=int8"], "precision=.*fp32, bf16 or fp16"),
        (["size=[512]"], r"size=\[512\] must be \[height, width\]"),
        (["batch_size=[0]"], r"batch_size=\[0\] must be a whole number of 1 or more"),
        (["repeats=0"], "repeats=0 must be"),
        (["onnx=none.onnx"], "onnx=none.onnx: there is no such file"),
        ([f"onnx={__file__}"], r"test_benchmark\.py: is no ONNX file that can be run"),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, list) else "",
)
def test_bad_values_are_named(overrides: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        _benchmark(*overrides, f"out={tmp_path}")
