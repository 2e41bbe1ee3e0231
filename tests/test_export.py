"""A checkpoint as one file: what comes out, and what keeps a wrong file from coming out."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch._export.serde.serialize import SerializeError

from src import exporting
from src.build import from_checkpoint
from src.build.validate import check_options
from src.cli.prepare import export as prepare_export
from src.commands import export
from src.data.sets.toy_streets import ToyStreets
from src.errors import UserError
from src.inference import Inference
from src.models.net import Net
from src.models.normalize import Normalize
from tests.conftest import composed, files_of_at_most, save_untrained

BISENET = ["model=bisenetv2", "model.net.width_multiplier=0.25", "model.net.head_channels=16"]
SCENES = ["data.size=[64,96]", "data.length={train: 2, val: 2, test: 2}"]


def _save(path: Path, *overrides: str) -> Path:
    """An untrained net that is sure of its classes."""
    content = torch.load(save_untrained(path, *SCENES, *overrides), weights_only=True)
    for weight in content["state_dict"].values():
        if weight.dim() == 4 and weight.shape[0] == len(ToyStreets.label_space.names):
            nn.init.normal_(weight)
    torch.save(content, path)
    return path


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _save(tmp_path_factory.mktemp("net") / "net.ckpt", *BISENET)


def _export(ckpt: Path, *overrides: str) -> Path:
    name, given = prepare_export([f"ckpt={ckpt}", *overrides])
    cfg = composed(name, *given)
    check_options("export", cfg)
    return export.export(cfg)


def _images(*shape: int) -> torch.Tensor:
    return torch.randint(256, shape, dtype=torch.uint8)


def _agreement(found: torch.Tensor, wanted: torch.Tensor) -> float:
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype == torch.uint8
    return float((found == wanted).float().mean())


@pytest.mark.slow
def test_pt2_of_one_size_is_the_net(ckpt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["layout=nhwc", "output=label_and_confidence", "size=[50,90]", "format=pt2"]
    out = _export(ckpt, *options, f"out={tmp_path / 'new/net.pt2'}")
    assert [path.name for path in out.parent.iterdir()] == ["net.pt2"]
    assert "same class as the net on 100" in (said := capsys.readouterr().out)
    assert "image (B,H,W,3) uint8 RGB, 50x90, batch any" in said
    extra = dict.fromkeys(("class_names", "class_colors", "input", "protocol"), "")
    net = torch.export.load(out, extra_files=extra).module()
    images, module = _images(3, 50, 90, 3), from_checkpoint.load_module(ckpt)
    label, confidence = module.label_and_confidence(images.permute(0, 3, 1, 2))
    found = net(images)
    assert _agreement(found[0], label) > 0.999
    assert (found[1].int() - confidence.int()).abs().max() <= 1
    assert json.loads(extra["class_names"]) == list(ToyStreets.label_space.names)
    assert json.loads(extra["class_colors"])[0] == list(ToyStreets.label_space.colors[0])
    assert json.loads(extra["protocol"])["inference"]["scales"] == [1.0]
    with pytest.raises(Exception, match=r"(?i)guard|shape|size"):
        net(_images(1, 64, 90, 3))


@pytest.mark.slow
def test_one_graph_holds_all_sizes_as_they_are_padded(ckpt: Path) -> None:
    module = from_checkpoint.load_module(ckpt)
    traced = exporting.trace(exporting.Deployed(module.net, module.normalize, module.inference))
    assert (traced.step, traced.least) == (1, 33)
    net = traced.program.module()
    for shape in ((1, 3, 33, 47), (3, 3, 64, 97)):
        images = _images(*shape)
        assert _agreement(net(images), module.predict_label(images)) > 0.999


class _Blue(Net):
    """Class 1 where there is more blue than red."""

    def __init__(self) -> None:
        super().__init__(num_classes=2)

    def decode(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": image[:, [0, 2]]}


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_normalisation_and_channel_order_are_in_the_graph(order: str) -> None:
    normalize = Normalize([0.1, 0.5, 0.9], [1, 1, 1], channel_order=order)
    deployed = exporting.Deployed(_Blue(), normalize, Inference(), layout="nhwc")
    images = _images(2, 64, 64, 3)
    red, blue = images[..., 0].float() - 25.5, images[..., 2].float() - 229.5
    wanted = (blue > red) if order == "rgb" else (red > blue)
    assert torch.equal(exporting.trace(deployed, size=(64, 64)).program.module()(images).bool(), wanted)
    assert torch.equal(images, images.clamp(0, 255))


def test_out_is_no_input_and_of_the_format(ckpt: Path, tmp_path: Path) -> None:
    net = shutil.copy(ckpt, tmp_path / "best.ckpt")
    (tmp_path / "best.pt2").symlink_to(net)
    for out, words in (("best.ckpt", r"must end in \.pt2"), ("best.pt2", "is an input of this command")):
        with pytest.raises(UserError, match=words):
            _export(net, "size=[64,64]", "format=pt2", f"out={tmp_path / out}")
    assert net.read_bytes() == ckpt.read_bytes()


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_leaves_no_file(ckpt: Path, tmp_path: Path) -> None:
    with files_of_at_most(20_000), pytest.raises(UserError, match=r"net\.pt2: cannot be written .File too large"):
        _export(ckpt, "size=[64,64]", "format=pt2", f"out={tmp_path / 'net.pt2'}")
    assert not list(tmp_path.iterdir())


class _FirstClass(nn.Module):
    """Says the same of every pixel."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return 0 * image[..., 0]


def test_a_wrong_file_is_not_left(ckpt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.pt2").write_bytes(b"the file of yesterday")
    free = {"image": {0: torch.export.Dim("batch")}}
    wrong = torch.export.export(_FirstClass(), (torch.zeros(2, 64, 96, 3, dtype=torch.uint8),), dynamic_shapes=free)
    monkeypatch.setattr(exporting, "trace", lambda *_, **__: exporting.Traced(wrong, (64, 96), 64, 1, 0))
    with pytest.raises(UserError, match=r"gives another class than the net on .* %.*min_agreement=0\.999"):
        _export(ckpt, "layout=nhwc", "size=[64,96]", "format=pt2", f"out={tmp_path / 'net.pt2'}")
    assert [path.name for path in tmp_path.iterdir()] == ["net.pt2"]
    assert (tmp_path / "net.pt2").read_bytes() == b"the file of yesterday"


@pytest.mark.parametrize("output", list(exporting.OUTPUTS))
def test_the_gate_measures_what_differs(output: str) -> None:
    scores = torch.zeros(1, 3, 2, 2)
    scores[:, 0] = 2.0
    wrong = {"scores": scores.clone(), "label": torch.zeros(1, 2, 2, dtype=torch.uint8)}
    wrong["scores"][0, :, 0, 0] = torch.tensor([2.0, 5.0, 0.0])
    wrong["label"][0, 0, 0] = 1
    certain = (255 * scores.softmax(1).amax(1)).to(torch.uint8)
    outputs = {"scores": [wrong["scores"]], "label": [wrong["label"]]}.get(output, [wrong["label"], certain - 51])
    found = exporting.compare(
        lambda _: [each.numpy() for each in outputs],
        lambda _: scores,
        [np.zeros((1, 2, 2, 3), np.uint8)],
        output=output,
        layout="nchw",
    )
    assert (found.share, found.pixels) == (0.75, 4)
    assert found.difference == pytest.approx({"scores": 5.0, "label": 2.0}.get(output, 0.2))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["inference/window=sliding"], "inference/window=whole"),
        (["inference/refine=crf"], "inference/refine=none"),
        (["size=[16,64]"], r"size=\[16, 64\] must be \[height, width\]"),
        (["size=512"], r"size=512 must be \[height, width\]"),
        (["format=onxx"], "format=onxx must be onnx, pt2 or bundle.*Did you mean 'onnx'"),
        (["precision=int8"], "precision=int8 must be fp32 or fp16"),
        (["batch=0"], "batch=0 must be"),
        (["min_agreement=99"], "min_agreement=99 must be a number from 0 to 1"),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, list) else "",
)
def test_what_cannot_be_exported_is_named(ckpt: Path, tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        _export(ckpt, "format=pt2", f"out={tmp_path / 'net.pt2'}", *overrides)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_without_onnx_it_says_what_to_install(ckpt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"pip install onnxscript.*format=pt2"):
        _export(ckpt, "format=onnx")


def test_a_trunk_may_need_larger_images() -> None:
    net = _Blue()
    net.backbone = nn.Identity()
    net.backbone.min_size = 71
    deployed = exporting.Deployed(net, Normalize([0.5] * 3, [1] * 3), Inference((0.5, 1.0)))
    assert deployed.least_side == 144


def test_onnx_takes_all_sizes_and_tells_of_its_classes(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    deployed = exporting.Deployed(_Blue(), Normalize([0.5] * 3, [1] * 3), Inference(flip=True))
    how = {"file_format": "onnx", "outputs": ["label"], "metadata": {"class_names": '["a", "b"]'}}
    exporting.write(exporting.trace(deployed).program, tmp_path / "net.onnx", **how)
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
    assert {entry.key: entry.value for entry in onnx.load(tmp_path / "net.onnx").metadata_props} == how["metadata"]
    for shape in ((1, 3, 33, 47), (3, 3, 64, 97)):
        images = _images(*shape)
        assert torch.equal(_run_onnx(tmp_path / "net.onnx", images)[0].bool(), images[:, 2] > images[:, 0])


def _run_onnx(path: Path, images: torch.Tensor) -> list[torch.Tensor]:
    return [torch.from_numpy(each) for each in exporting.runner(path, file_format="onnx")(images.numpy())]


@pytest.mark.parametrize(
    ("file_format", "options"),
    [
        pytest.param("pt2", {"long_side": 60, "resample": "area"}, marks=pytest.mark.slow),
        pytest.param("onnx", {"long_side": 90, "short_side": 48, "scales": [0.75, 1.5]}, marks=pytest.mark.slow),
        pytest.param(
            "onnx",
            {"long_side": 60, "resample": "area", "scales": [0.75, 1.5], "multiple": 1},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_size_at_which_images_are_seen_is_in_the_graph(file_format: str, options: dict, tmp_path: Path) -> None:
    """Larger and smaller images than that, upright and not."""
    pytest.importorskip("onnx")
    net, normalize, inference = _Blue(), Normalize([0.5] * 3, [1] * 3), Inference(**options)
    traced = exporting.trace(exporting.Deployed(net, normalize, inference, output="scores"))
    how = {"file_format": file_format, "outputs": ["scores"], "metadata": {}}
    exporting.write(traced.program, tmp_path / f"net.{file_format}", **how)
    run = exporting.runner(tmp_path / f"net.{file_format}", file_format=file_format)
    for shape in ((1, 3, 49, 101), (3, 3, 128, 97), (1, 3, 45, 47)):
        images = _images(*shape)
        found = torch.from_numpy(run(images.numpy())[0])
        assert torch.allclose(found, inference(net, normalize(images)), atol=1e-4)


@pytest.mark.slow
def test_the_file_sees_images_as_they_were_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = _save(tmp_path / "net.ckpt", *BISENET, "data.eval_long_edge=64")
    how = ("format=pt2", "size=[64,96]", f"out={tmp_path}/net.pt2", "check_images=1")
    images, module = _images(1, 3, 64, 96), from_checkpoint.load_module(net)
    for given, inference, before in (
        ([], Inference(long_side=64, resample="area"), None),
        (["inference.long_side=null"], Inference(), 64),
    ):
        _export(net, *how, *given)
        assert ("applied here: inference.long_side=null" in capsys.readouterr().out) == bool(given)
        extra = {"protocol": ""}
        found = torch.export.load(tmp_path / "net.pt2", extra_files=extra).module()(images)
        assert json.loads(extra["protocol"])["resize_before"] == before
        assert _agreement(found, inference.label(module.net, module.normalize(images))) > 0.999


@pytest.mark.slow
def test_onnx_of_all_sizes(ckpt: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    out, module = _export(ckpt, f"out={tmp_path / 'net.onnx'}"), from_checkpoint.load_module(ckpt)
    for shape in ((1, 3, 33, 47), (3, 3, 64, 97)):
        images = _images(*shape)
        assert _agreement(_run_onnx(out, images)[0], module.predict_label(images)) > 0.999
    model = onnx.load(out)
    onnx.checker.check_model(model)
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
    metadata = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert metadata["class_names"] == list(ToyStreets.label_space.names)
    assert metadata["input"]["sizes"] == "any from 33x33 on"


@pytest.mark.slow
def test_onnx_of_half_precision_has_typed_weights(ckpt: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    given = ["precision=fp16", "min_agreement=0.9", "size=[64,96]", "batch=1", "output=scores"]
    model = onnx.load(_export(ckpt, *given, f"out={tmp_path / 'net.onnx'}"))
    large = [each for each in model.graph.initializer if np.prod(each.dims) > 16]
    assert {each.data_type for each in large} == {onnx.TensorProto.FLOAT16}
    assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 64, 96]


def test_a_graph_that_pt2_cannot_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(*_: object, **__: object) -> None:
        raise SerializeError("an expression")

    monkeypatch.setattr(torch.export, "save", save)
    with pytest.raises(UserError, match=r"format=pt2: .*'size=\[512,1024\]'"):
        exporting.write(None, tmp_path / "net.pt2", file_format="pt2", outputs=["label"], metadata={})


def test_the_printed_line_names_no_provider_that_is_missing() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    assert exporting.providers()[-1] == "CPUExecutionProvider"
    assert set(exporting.providers()) <= set(onnxruntime.get_available_providers())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "given"),
    [
        (["model=deeplab_v3", "model.net.backbone.name=test_resnet", "model.net.aspp_channels=8"], []),
        ([*BISENET, "model/scales=hierarchical"], ["model.scales.scales=[0.5,1.0,1.5]", "inference.flip=true"]),
        (BISENET, ["inference.scales=[0.75,1.0]", "inference.fuse=max", "inference.multiple=1"]),
    ],
    ids=["atrous", "hierarchical and mirrored", "scales, not padded"],
)
def test_inference_is_part_of_the_file(overrides: list[str], given: list[str], tmp_path: Path) -> None:
    if "model=deeplab_v3" in overrides:
        overrides = [*overrides, "model.net.backbone.multi_grid=null"]
    path = _save(tmp_path / "net.ckpt", *overrides)
    out = _export(path, *given, "size=[96,128]", "format=pt2", f"out={tmp_path / 'net.pt2'}")
    assert torch.export.load(out).module()(_images(1, 3, 96, 128)).shape == (1, 96, 128)
