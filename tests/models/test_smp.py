"""The adapter of segmentation_models_pytorch: each of its nets, at any size, with the outputs that it gives alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import src.models  # noqa: F401, before the package imports torchvision
from src.errors import UserError
from src.models import SMP

smp = pytest.importorskip("segmentation_models_pytorch")

ARCHS = tuple(smp.MODEL_ARCHITECTURES_MAPPING)
POOLED = ("deeplabv3", "deeplabv3plus", "pan", "upernet")
TINY, VIT = "tu-test_resnet", "tu-test_vit"
LARGE = ("dpt", "manet", "unetplusplus", "upernet")


def each(*archs: str) -> pytest.MarkDecorator:
    """A test of these nets, of the large ones among the slow tests."""
    marked = [pytest.param(arch, marks=pytest.mark.slow) if arch in LARGE else arch for arch in archs]
    return pytest.mark.parametrize("arch", marked)


def tiny(arch: str) -> SMP:
    return small(arch, **({} if arch == "dpt" else {"encoder": TINY}))


def small(arch: str = "unet", **options: object) -> SMP:
    return SMP(**{"num_classes": 3, "arch": arch, "encoder": VIT if arch == "dpt" else "resnet18"} | options)


@each(*ARCHS)
def test_every_net_takes_any_size_and_trains_what_it_uses(arch: str) -> None:
    net = tiny(arch)
    assert net.training
    for size in ((32, 32), (33, 97)):
        outputs = net(torch.randn(2, 3, *size))
        assert outputs.keys() == {"logits"}
        assert outputs["logits"].shape == (2, 3, *size)
    outputs["logits"].square().mean().backward()
    given = {name for name, p in net.named_parameters() if p.grad is not None}
    assert given == {name for name, p in net.named_parameters() if p.requires_grad}
    with torch.no_grad():
        assert net.eval()(torch.randn(1, 3, 33, 97))["logits"].isfinite().all()


@each(*ARCHS)
def test_every_net_gives_the_packages_outputs_with_the_packages_names(arch: str) -> None:
    ours = tiny(arch).eval()
    options = {"dynamic_img_size": True} if arch == "dpt" else {}
    encoder = VIT if arch == "dpt" else TINY
    theirs = smp.create_model(arch, encoder, encoder_weights=None, classes=3, **options).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    image = torch.randn(1, 3, 128, 160)
    with torch.no_grad():
        outputs = ours.decode(image)
        assert torch.equal(outputs["logits"], theirs(image))
        assert torch.equal(outputs["logits"], ours.segmentation_head(outputs["features"]))
    assert outputs["features"].shape[1] == ours.feature_channels


@pytest.mark.parametrize(
    ("arch", "padded_size", "feature_size"),
    [("unet", (96, 128), (70, 101)), ("fpn", (96, 128), (18, 26)), ("deeplabv3plus", (80, 112), (18, 26))],
)
def test_other_sizes_are_padded_with_zeros_and_cropped(
    arch: str, padded_size: tuple[int, int], feature_size: tuple[int, int]
) -> None:
    net = small(arch).eval()
    image = torch.randn(1, 3, 70, 101)
    padded = torch.zeros(1, 3, *padded_size)
    padded[..., :70, :101] = image
    with torch.no_grad():
        whole, part = net.decode(padded), net.decode(image)
    for name, (rows, columns) in {"logits": (70, 101), "features": feature_size}.items():
        assert part[name].shape[-2:] == (rows, columns)
        assert torch.equal(part[name], whole[name][..., :rows, :columns])


def test_stages_behind_the_last_that_is_read_are_not_trained() -> None:
    frozen = {name.split(".")[1] for name, p in small("pspnet").named_parameters() if not p.requires_grad}
    assert frozen == {"layer3", "layer4"}
    assert all(p.requires_grad for p in small("unet").parameters())


def test_a_trial_changes_no_state() -> None:
    torch.manual_seed(0)
    theirs = smp.create_model("unet", "resnet18", encoder_weights=None, classes=3).state_dict()
    torch.manual_seed(0)
    ours = small().state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def test_options_reach_the_package() -> None:
    net = small("unet", in_channels=4, options={"decoder_channels": [32, 16, 8, 8, 4], "encoder_depth": 5})
    assert net.feature_channels == 4
    assert net(torch.randn(2, 4, 64, 64))["logits"].shape == (2, 3, 64, 64)
    with pytest.raises(UserError, match="takes"):
        net(torch.randn(2, 3, 64, 64))
    assert small("fpn", encoder="tu-resnet18")(torch.randn(2, 3, 40, 40))["logits"].shape == (2, 3, 40, 40)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_classes": 0}, "num_classes=0 must be"),
        ({"arch": "unett"}, "use one of unet, unetplusplus"),
        ({"encoder": "resnet43"}, "Did you mean 'resnet34'"),
        ({"encoder": "tu-convnext_tinny"}, "Did you mean 'tu-convnext_tiny'"),
        ({"arch": "dpt", "encoder": "resnet18"}, "tu-"),
        ({"arch": "linknet", "encoder": "mit_b0"}, "not supported for Linknet"),
        ({"arch": "upernet", "encoder": "tu-swin_tiny_patch4_window7_224"}, "cannot run upernet"),
        ({"options": {"decoder_chanels": [1]}}, "Did you mean 'decoder_channels'"),
        ({"options": {"decoder_channels": [1, 2]}}, "2 blocks"),
        ({"options": {"activation": "sigmoid"}}, "contain 'activation'"),
        ({"options": {"classes": 7}}, "contain 'classes'"),
        ({"encoder_weights": "imagenett"}, "encoder_weights=null"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError) as caught:
        small(**options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@each(*POOLED)
def test_training_on_one_image_is_refused_where_a_pooled_map_is_normed(arch: str) -> None:
    net, image = tiny(arch), torch.randn(1, 3, 128, 128)
    with pytest.raises(UserError, match="batch of 2 or more"):
        net(image)
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.eval()
    assert net(image)["logits"].isfinite().all()


@each(*(arch for arch in ARCHS if arch not in POOLED))
def test_other_nets_train_on_one_image(arch: str) -> None:
    assert tiny(arch)(torch.randn(1, 3, 64, 96))["logits"].isfinite().all()


def test_a_missing_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(UserError, match="pip install segmentation-models-pytorch==") as caught:
        small()
    assert "\n" not in str(caught.value)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """A hub with weights for every encoder: those of a ResNet-18."""
    encoder = smp.encoders.get_encoder("resnet18", weights=None)
    weights = {name: tensor.contiguous() for name, tensor in encoder.state_dict().items()}
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}))

    def download(*_: object, filename: str, **__: object) -> str:
        return str(tmp_path / filename)

    monkeypatch.setattr(smp.encoders, "hf_hub_download", download)
    return weights


def test_pretrained_encoders_bring_weights_and_statistics(hub: dict[str, Tensor]) -> None:
    net = small(encoder_weights="imagenet")
    assert all(torch.equal(tensor, hub[name]) for name, tensor in net.encoder.state_dict().items())
    assert net.encoder.pretrained_cfg["mean"] == [0.1, 0.2, 0.3]
    assert not hasattr(small().encoder, "pretrained_cfg")


def test_weights_out_of_reach_end_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: object, **__: object) -> None:
        raise OSError("no way to the hub\nand more lines")

    monkeypatch.setattr(smp.encoders, "hf_hub_download", download)
    with pytest.raises(UserError) as caught:
        small(encoder_weights="imagenet")
    assert "no way to the hub); " in str(caught.value)
    assert "model.net.encoder_weights=null" in str(caught.value)
    assert "\n" not in str(caught.value)
