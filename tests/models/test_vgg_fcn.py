"""VGG-16 with convolutional classifier layers, and FCN-32s, 16s, 8s on it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn
from torch.nn import functional as F

from src.build.from_config import build_net
from src.build.init_from import init_from
from src.errors import UserError
from src.models import FCN, vgg
from src.models.normalize import Normalize
from src.models.vgg import VGG16
from tests.conftest import ROOT

K = 3


def _fcn(stride: int, **options: object) -> FCN:
    torch.manual_seed(stride)
    net = FCN(num_classes=K, backbone=VGG16(fc_channels=8), stride=stride, **{"pad_100": False, **options})
    for score in net.scores.values():
        nn.init.normal_(score.weight, std=0.1)
    return net.eval()


@pytest.mark.parametrize(
    ("model", "params"), [("fcn32s", 134_346_581), ("fcn16s", 134_357_354), ("fcn8s", 134_362_751)], ids=str
)
def test_parameters_are_as_many_as_published(model: str, params: int) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", overrides=[f"model={model}", "data.num_classes=21"])
    with torch.device("meta"):
        assert sum(p.numel() for p in build_net(cfg).parameters()) == params


def test_sizes_of_the_poolings() -> None:
    with torch.device("meta"):
        plain, dilated = VGG16(), VGG16(dilated=True, average_pool=True, fc6_kernel=3, fc6_rates=[12], fc_channels=1024)
        assert [x.shape[-1] for x in plain(torch.empty(1, 3, 32, 33))] == [17, 9, 5, 3, 2]
        for side, cells in ((306, 39), (321, 41)):  # examples of the DeepLab papers
            features = dilated(torch.empty(1, 3, 32, side))
            assert [x.shape[-1] for x in features[2:]] == [cells] * 3
    for backbone in (plain, dilated):
        features = backbone(torch.empty(1, 3, 64, 64, device="meta"))
        assert [x.shape[1] for x in features] == backbone.channels
        assert [64 // x.shape[2] for x in features] == backbone.strides


def test_pad_100_example() -> None:
    """500 pixels: fc6 gives 16 cells, from which FCN-32s makes 544 pixels, to be cropped."""
    with torch.device("meta"):
        net = FCN(num_classes=21, backbone=VGG16(), stride=32)
        image = torch.empty(1, 3, 500, 500)
        features = net.decode(image)["features"]
        assert features.shape == (1, 4096, 16, 16)
        assert net.upsample["32_to_1"](torch.empty(1, 21, 16, 16)).shape[-2:] == (544, 544)
        assert net.decode(image)["logits"].shape == (1, 21, 500, 500)


class Coordinates(VGG16):
    """Instead of features, each cell's row and column in the image, from the layers' kernels and paddings alone."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.dilated, self.border = False, 0
        self.channels, self.strides = [2] * 5, [2, 4, 8, 16, 32]

    def pad_100(self) -> None:
        self.border = 99

    def forward(self, image: Tensor) -> list[Tensor]:
        rows, columns = (torch.arange(-self.border, side + self.border) + 0.0 for side in image.shape[-2:])
        x = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))[None]
        features = []
        for _ in range(5):
            x = F.avg_pool2d(x, 2, ceil_mode=True)
            features.append(x)
        if self.border:  # fc6 without padding: each position is the centre of seven
            features[-1] = x[..., 3:-3, 3:-3]
        return features


@pytest.mark.parametrize("pad_100", [True, False])
@pytest.mark.parametrize("stride", [32, 16, 8])
def test_scores_and_skips_meet_in_place(stride: int, pad_100: bool) -> None:
    """Bilinear upsampling of coordinates gives each pixel its own coordinates, once per scored feature."""
    net = FCN(num_classes=2, backbone=Coordinates(), stride=stride, pad_100=pad_100)
    for score in net.scores.values():
        nn.init.dirac_(score.weight)
    size = (313, 291)
    logits = net.decode(torch.zeros(1, 3, *size))["logits"][0] / len(net.scores)
    rows, columns = torch.meshgrid(*(torch.arange(side) + 0.0 for side in size), indexing="ij")
    inside = (slice(64, 224), slice(64, 224))  # beyond the reach of the border
    torch.testing.assert_close(logits[0][inside], rows[inside], atol=1e-3, rtol=0)
    torch.testing.assert_close(logits[1][inside], columns[inside], atol=1e-3, rtol=0)


def test_upsampling_starts_as_bilinear_interpolation() -> None:
    net = _fcn(8)
    for name, deconvolution in net.upsample.items():
        coarse, fine = map(int, name.split("_to_"))
        scores = torch.randn(2, K, 5, 7)
        expected = F.interpolate(scores, scale_factor=coarse // fine, mode="bilinear")
        torch.testing.assert_close(deconvolution(scores), expected, atol=1e-5, rtol=1e-5)


def test_upsampling_keeps_classes_apart_when_it_is_trained() -> None:
    deconvolution = _fcn(16, deconvolution="learned").upsample["16_to_1"]
    nn.init.normal_(deconvolution.weight)
    scores = torch.randn(1, K, 4, 4)
    other = scores.clone()
    other[:, 1] += 1
    changed = (deconvolution(other) != deconvolution(scores)).flatten(2).any(2)
    assert changed.tolist() == [[False, True, False]]


@pytest.mark.parametrize(
    ("deconvolution", "trained"),
    [("fixed", []), ("inner", ["32_to_16", "16_to_8"]), ("learned", ["32_to_16", "16_to_8", "8_to_1"])],
)
def test_which_upsampling_is_trained(deconvolution: str, trained: list[str]) -> None:
    net = _fcn(8, deconvolution=deconvolution)
    assert [name for name, part in net.upsample.items() if list(part.parameters())] == trained


def test_new_scores_are_zero() -> None:
    net = FCN(num_classes=K, backbone=VGG16(fc_channels=8), pad_100=False).eval()
    assert not net(torch.randn(1, 3, 40, 40))["logits"].any()


@pytest.mark.parametrize("pad_100", [pytest.param(True, marks=pytest.mark.slow), False])
def test_factors_on_the_skips_are_factors_on_their_kernels(pad_100: bool) -> None:
    at_once, plain = _fcn(8, skip_scales=[0.01, 0.0001], pad_100=pad_100), _fcn(8, pad_100=pad_100)
    plain.load_state_dict(at_once.state_dict())
    with torch.no_grad():
        plain.scores["16"].weight.mul_(0.01)
        plain.scores["8"].weight.mul_(0.0001)
        image = torch.randn(1, 3, 64, 50)
        torch.testing.assert_close(at_once(image)["logits"], plain(image)["logits"])


@pytest.mark.parametrize(("before", "after", "new"), [(32, 16, "16"), (16, 8, "8")])
def test_each_stage_starts_from_the_one_before(before: int, after: int, new: str, tmp_path: Path) -> None:
    coarse, fine = _fcn(before), _fcn(after)
    torch.save({"state_dict": {f"net.{name}": x for name, x in coarse.state_dict().items()}}, tmp_path / "coarse.ckpt")
    told = init_from(SimpleNamespace(net=fine, normalize=Normalize([0.45] * 3, [0.25] * 3)), tmp_path / "coarse.ckpt")
    own, given = fine.state_dict(), coarse.state_dict()
    assert f"loaded {len(own) - 4} of {len(own)} tensors" in told
    missing = {f"scores.{new}.weight", f"scores.{new}.bias"}
    missing |= {f"upsample.{before}_to_{after}.weight", f"upsample.{after}_to_1.weight"}
    assert own.keys() - given.keys() == missing
    assert all(torch.equal(own[name], given[name]) for name in own.keys() - missing)


@pytest.mark.parametrize("pad_100", [pytest.param(True, marks=pytest.mark.slow), False])
def test_any_size_from_32_pixels(pad_100: bool) -> None:
    net = _fcn(8, pad_100=pad_100)
    with torch.no_grad():
        for size in ((32, 32), (33, 47)):
            assert net(torch.randn(1, 3, *size))["logits"].shape == (1, K, *size)
        free = {2: torch.export.Dim("height", min=33), 3: torch.export.Dim("width", min=33)}
        program = torch.export.export(net, (torch.randn(1, 3, 64, 96),), dynamic_shapes={"image": free}).module()
        image = torch.randn(1, 3, 33, 47)
        torch.testing.assert_close(program(image)["logits"], net(image)["logits"], atol=1e-4, rtol=1e-4)


def test_gradients_reach_every_parameter() -> None:
    net = _fcn(8, deconvolution="learned").train()
    net(torch.randn(1, 3, 64, 64))["logits"].square().mean().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in net.parameters())


@pytest.fixture
def imagenet(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Weights that tell their place: output and input channel, row and column."""
    features = VGG16(fc_channels=1).stages
    number = torch.arange(4096) + 0.0
    grid = torch.arange(7) + 0.0
    fc1 = number.view(-1, 1, 1, 1) * 100 + grid.view(-1, 1) * 10 + grid
    trunk = SimpleNamespace(
        features=features,
        pre_logits=SimpleNamespace(
            fc1=SimpleNamespace(weight=fc1.expand(4096, 512, 7, 7), bias=number),
            fc2=SimpleNamespace(weight=(number.view(-1, 1) * 4096 + number)[..., None, None], bias=number),
        ),
        pretrained_cfg={},
    )
    monkeypatch.setattr(vgg, "create_trunk", lambda **_: trunk)
    return trunk


@pytest.mark.parametrize(("kernel", "kept"), [(7, range(7)), (4, (0, 2, 4, 6)), (3, (0, 3, 6)), (1, (3,))])
def test_pretrained_weights_are_thinned(imagenet: SimpleNamespace, kernel: int, kept: range) -> None:
    rates = [2] if kernel == 4 else [1, 2]
    options = {"fc6_kernel": kernel, "fc6_rates": rates, "fc_channels": 16, "pretrained": True}
    net, again = VGG16(**options), VGG16(**options)
    assert torch.equal(net.stages[4][2].weight, imagenet.features[4][2].weight)
    filters = []
    for fc, same in zip(net.fc, again.fc, strict=True):
        weight, chosen = fc.fc6.weight[:, 0], fc.fc6.bias
        expected = torch.tensor([[10 * y + x for x in kept] for y in kept]) + 100 * chosen.view(-1, 1, 1)
        assert torch.equal(weight, expected)
        assert torch.equal(fc.fc7.weight[..., 0, 0], fc.fc7.bias.view(-1, 1) * 4096 + chosen)
        assert torch.equal(chosen, same.fc6.bias)
        assert torch.equal(fc.fc7.bias, same.fc7.bias)
        filters.append(chosen)
    assert len({tuple(chosen.tolist()) for chosen in filters}) == len(rates)  # not the same ones in each branch


@pytest.mark.slow
def test_pretrained_file_gives_timms_features(tmp_path: Path) -> None:
    """fc6 in the middle of a 7x7 map sees what the classifier of 224x224 images sees."""
    import timm

    theirs = timm.create_model("vgg16").eval()
    torch.save(theirs.state_dict(), tmp_path / "vgg16.pth")
    ours = VGG16(pretrained=str(tmp_path / "vgg16.pth")).eval()
    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected = theirs.pre_logits(theirs.features(image))
        torch.testing.assert_close(ours(image)[-1][..., 3:4, 3:4], expected)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fc6_kernel": 4, "fc6_rates": [3]}, "fc6_kernel=4"),
        ({"fc6_rates": []}, "fc6_rates"),
        ({"fc6_rates": [0]}, "fc6_rates"),
        ({"fc6_kernel": 0}, "fc6_kernel"),
        ({"fc_channels": 0}, "fc_channels"),
        ({"dropout": 1.0}, "dropout"),
        ({"fc6_kernel": 9, "pretrained": True}, "pretrained=false"),
        ({"fc_channels": 5000, "pretrained": True}, "pretrained=false"),
        ({"fc_channels": 8, "pretrained": "missing.pth"}, "missing.pth"),
    ],
    ids=str,
)
def test_wrong_trunks_are_refused(options: dict[str, object], words: str) -> None:
    with torch.device("meta"), pytest.raises(UserError, match=words) as caught:
        VGG16(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stride": 4}, "32, 16 or 8"),
        ({"deconvolution": "bilinear"}, "deconvolution"),
        ({"skip_scales": [1.0]}, "skip_scales"),
        ({"skip_scales": [0.01, 0.0]}, "skip_scales"),
        ({"num_classes": 0}, "num_classes"),
    ],
    ids=str,
)
def test_wrong_nets_are_refused(options: dict[str, object], words: str) -> None:
    with torch.device("meta"), pytest.raises(UserError, match=words):
        FCN(**{"num_classes": K, "backbone": VGG16(), **options})


def test_wrong_backbones_are_refused() -> None:
    with torch.device("meta"):
        dilated = VGG16(dilated=True)
    with pytest.raises(UserError, match="pad_100=false"):
        FCN(num_classes=K, backbone=dilated)
    with pytest.raises(UserError, match="FCN-8s needs a feature at stride 32"):
        FCN(num_classes=K, backbone=dilated, pad_100=False)
