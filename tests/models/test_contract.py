"""What every public net must do; a new net is one line in ``NETS``."""

from __future__ import annotations

import copy
import functools
import io
import itertools
from collections.abc import Callable

import pytest
import torch

from src import models
from src.errors import UserError
from src.models.backbones import create_backbone
from src.models.net import Net
from src.ops.resize import resize

K = 5
trunk = create_backbone
NETS: dict[str, Callable[[], Net]] = {  # class, and what is special; with the smallest trunk there is
    "ANN": lambda: models.ANN(
        num_classes=K,
        backbone=trunk("test_resnet", output_stride=8),
        channels=64,
        key_channels=32,
        value_channels=32,
        sizes=[1, 2, 3],
        aux_channels=32,
    ),
    "ANN with full non-local blocks": lambda: models.ANN(
        num_classes=K,
        backbone=trunk("test_resnet", output_stride=32),
        fusion="fnb",
        refine="nb",
        channels=64,
        key_channels=32,
        value_channels=16,
        zero_init=False,
        aux_channels=None,
    ),
    "BiSeNetV1": lambda: models.BiSeNetV1(num_classes=K, backbone=trunk("test_resnet"), channels=32),
    "BiSeNetV2": lambda: models.BiSeNetV2(num_classes=K),
    "BiSeNetV2 other trunk": lambda: models.BiSeNetV2(num_classes=K, backbone=trunk("mobilenetv2_035")),
    "DeepLabV3": lambda: models.DeepLabV3(
        num_classes=K,
        backbone=trunk("resnet18", output_stride=16, multi_grid=[1, 2]),
        cascade_depth=5,
        aspp_channels=32,
        aspp_rates=[1, 2],
        head_channels=[32],
        aux_channels=32,
    ),
    "DeepLabV3Plus": lambda: models.DeepLabV3Plus(
        num_classes=K,
        backbone=trunk("mobilenetv2_035", output_stride=16),
        aspp_channels=32,
        aspp_rates=[1, 2],
        low_levels=[1, 0],
        decoder_channels=[32],
        separable_aspp=True,
        separable_decoder=True,
        aux_channels=32,
    ),
    "OCRNet": lambda: models.OCRNet(num_classes=K, backbone=trunk("hrnet_w18_small"), mid_channels=64),
    "OCRNet of stages": lambda: models.OCRNet(
        num_classes=K, backbone=trunk("test_resnet", output_stride=8), concat_features=False, mid_channels=64
    ),
    # scales whose images keep 32 pixels, and more in evaluation; other scales in test_scale_attention
    "HierarchicalAttention": lambda: models.HierarchicalAttention(
        net=models.BiSeNetV2(num_classes=K, width_multiplier=0.25), low_scale=0.98, scales=[1.0, 1.5], supervise=True
    ),
    "ExplicitAttention": lambda: models.ExplicitAttention(
        net=models.BiSeNetV2(num_classes=K, width_multiplier=0.25), scales=[1.0, 1.5], attention_channels=[32]
    ),
    "FCN": lambda: models.FCN(num_classes=K, backbone=trunk("test_resnet"), pad_100=False, deconvolution="learned"),
    "DeepLabV1": lambda: models.DeepLabV1(
        num_classes=K, backbone=trunk("test_resnet", output_stride=8), msc_channels=8
    ),
    "DeepLabV2": lambda: models.DeepLabV2(
        num_classes=K, backbone=trunk("test_resnet", output_stride=8, ceil_pool=True)
    ),
    "PooledScales": lambda: models.PooledScales(
        net=models.FCN(num_classes=K, backbone=trunk("test_resnet"), pad_100=False),
        scales=[1.0, 1.5],
        fuse="mean_probabilities",
        at="image",
    ),
    "PooledScales of reduced labels": lambda: models.PooledScales(
        net=models.DeepLabV1(num_classes=K, backbone=trunk("test_resnet", output_stride=8)),
        scales=[1.0, 1.5],
        supervise=True,
    ),
    "DilatedFCN": lambda: models.DilatedFCN(
        num_classes=K,
        backbone=trunk("test_resnet", output_stride=8),
        channels=[32, 32],
        concat_input=True,
        aux_channels=8,
    ),
    "DilatedFCN of all levels": lambda: models.DilatedFCN(
        num_classes=K, backbone=trunk("test_resnet"), levels="all", channels=[48], kernel_size=1, aux_channels=None
    ),
    "NonLocalNet": lambda: models.NonLocalNet(
        num_classes=K, backbone=trunk("test_resnet", output_stride=8), channels=32, aux_channels=16
    ),
    "PSPNet": lambda: models.PSPNet(  # maps of 33 pixels are 5x5 at output stride 8
        num_classes=K,
        backbone=trunk("test_resnet", output_stride=8),
        pool_sizes=[1, 2, 5],
        pool_channels=16,
        channels=32,
        aux_channels=16,
    ),
    "SMP": lambda: models.SMP(num_classes=K, arch="fpn", encoder="tu-test_resnet"),
}
each_net = pytest.mark.parametrize("name", NETS)
odd_sizes = pytest.mark.parametrize("size", [(33, 47), (97, 130)], ids=str)  # 64x96 below


def build(name: str) -> Net:
    net = copy.deepcopy(_built(name))
    torch.manual_seed(0)
    return net


@functools.cache
def _built(name: str) -> Net:
    torch.manual_seed(0)
    net = NETS[name]()
    for p in net.parameters():
        if p.dim() == 4 and not p.any():  # a classifier that starts at zero would hide what comes before it
            torch.nn.init.normal_(p, std=0.01)
    return net


def test_no_public_net_is_left_out() -> None:
    assert {name.split(" ")[0] for name in NETS} == set(models.__all__)


@odd_sizes
@each_net
def test_training_outputs_are_finite_and_of_the_images_size(name: str, size: tuple[int, int]) -> None:
    net = build(name).train()
    outputs = net(torch.randn(2, 3, *size))
    assert "logits" in outputs
    for key, logits in outputs.items():
        assert key == "logits" or key.startswith("aux_")
        assert logits.shape[:2] == (2, K)
        assert logits.shape[2:] == size or (net.reduced_labels and 0 < logits.shape[3] < size[1])
        assert logits.isfinite().all()


@odd_sizes
@each_net
def test_evaluation_gives_logits_alone_and_the_same_twice(name: str, size: tuple[int, int]) -> None:
    net = build(name).eval()
    image = torch.randn(1, 3, *size)
    with torch.no_grad():
        first, second = net(image), net(image)
    assert [key for key in first if key.startswith("aux_")] == []
    assert first["logits"].shape == (1, K, *size)
    assert torch.equal(first["logits"], second["logits"])


@each_net
def test_forward_is_decode_and_resize(name: str) -> None:
    net = build(name).eval()
    image = torch.randn(1, 3, 97, 130)
    with torch.no_grad():
        decoded, full = net.decode(image), net(image)
    features = decoded.pop("features")
    assert features.shape[:2] == (1, net.feature_channels)
    assert decoded.keys() == full.keys()
    for key in full:
        assert torch.equal(resize(decoded[key], (97, 130), align_corners=net.align_corners), full[key])


@each_net
def test_an_image_does_not_depend_on_its_batch(name: str) -> None:
    net = build(name).eval()
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        together = net(images)["logits"]
        alone = torch.cat([net(image[None])["logits"] for image in images])
    assert together.shape == (2, K, 64, 96)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


@each_net
def test_gradients_reach_every_parameter(name: str) -> None:
    net = build(name).train()
    outputs = net(torch.randn(2, 3, 64, 96))
    sum(logits.square().mean() for logits in outputs.values()).backward()
    assert [key for key, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@each_net
def test_state_dict_survives_saving(name: str) -> None:
    net, other = build(name).eval(), build(name).eval()
    for tensor in (*other.parameters(), *other.buffers()):
        tensor.data.add_(1)
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected, changed = net(image)["logits"], other(image)["logits"]
        other.load_state_dict(torch.load(file, weights_only=True), strict=True)
        assert not torch.equal(changed, expected)
        assert torch.equal(other(image)["logits"], expected)


@pytest.mark.parametrize("dtype", [pytest.param(torch.float16, marks=pytest.mark.slow), torch.bfloat16], ids=str)
@each_net
def test_autocast_trains(name: str, dtype: torch.dtype) -> None:
    net = build(name).train()
    with torch.autocast("cpu", dtype):
        outputs = net(torch.randn(2, 3, 64, 64))
    assert all(logits.isfinite().all() for logits in outputs.values())
    sum(logits.float().mean() for logits in outputs.values()).backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


@each_net
def test_memory_format_and_bfloat16_give_close_results(name: str) -> None:
    net = build(name).eval()
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        plain = net(image)["logits"]
        other = net.to(memory_format=torch.channels_last)(image.to(memory_format=torch.channels_last))["logits"]
        with torch.autocast("cpu", torch.bfloat16):
            coarse = net(image)["logits"].float()
    torch.testing.assert_close(other, plain, rtol=1e-3, atol=1e-4 * float(plain.std()))
    assert (coarse - plain).norm() < 0.05 * (plain - plain.mean()).norm()


@pytest.mark.slow
@each_net
def test_compiles_as_one_graph(name: str) -> None:
    """The graph alone: kernels are made for BiSeNetV2 in test_training."""
    torch.compiler.reset()  # all nets share one forward, and so many graphs of it are refused
    net = build(name).eval()
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        plain, compiled = net(image), torch.compile(net, backend="aot_eager", fullgraph=True)(image)
    torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@each_net
def test_export_keeps_batch_and_size_free(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The smallest trunk rounds up where it pools, as ResNet-D does, and no graph holds that for every size.
    roomy = {"test_resnet": "resnet18"}
    monkeypatch.setattr(f"{__name__}.trunk", lambda name, **options: create_backbone(roomy.get(name, name), **options))
    net = _built.__wrapped__(name).eval()
    # from 33 pixels on: at 32 the coarsest map is 1x1, which the exporter treats as a case of its own
    free = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height", min=33), 3: torch.export.Dim("width", min=33)}
    program = torch.export.export(net, (torch.randn(2, 3, 96, 128),), dynamic_shapes={"image": free}).module()
    for shape in ((1, 3, 33, 47), (3, 3, 64, 130)):
        image = torch.randn(shape)
        torch.testing.assert_close(program(image)["logits"], net(image)["logits"], rtol=1e-4, atol=1e-4)


WRONG = [
    (torch.zeros(3, 64, 64), "3 dimensions"),
    (torch.zeros(1, 4, 64, 64), "4 channels"),
    (torch.zeros(0, 3, 64, 64), "empty batch"),
    (torch.zeros(1, 3, 31, 64), "31x64"),
    (torch.zeros(1, 3, 64, 31), "64x31"),
    (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "torch.uint8"),
]


@each_net
def test_wrong_images_are_refused_in_one_sentence(name: str) -> None:
    net = build(name).eval()
    for (image, words), call in itertools.product(WRONG, (net, net.decode)):
        with pytest.raises(UserError) as caught:
            call(image)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
