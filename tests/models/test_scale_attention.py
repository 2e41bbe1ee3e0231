"""Attention over scales: worked values, identities, refusals, and the way through configs and checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from torch import Tensor, nn

from src.build import from_checkpoint, from_config
from src.cli.prepare import PREPARE
from src.errors import UserError
from src.inference import Inference
from src.models import ExplicitAttention, HierarchicalAttention
from src.models.net import Net
from src.ops.resize import resize
from src.ops.scale_fusion import fuse_hierarchical, hierarchical_weights
from src.training.module import SegmentationModule
from tests.conftest import ROOT

K = 4


class Small(Net):
    """A net of two layers at 1/4 of the image, with an auxiliary output at 1/2."""

    feature_channels = 6

    def __init__(self) -> None:
        super().__init__(num_classes=K)
        self.body = nn.Sequential(nn.Conv2d(3, 6, 4, stride=4), nn.BatchNorm2d(6), nn.ReLU())
        self.head = nn.Conv2d(6, K, 1)
        self.aux_head = nn.Conv2d(3, K, 2, stride=2)

    def decode(self, image: Tensor) -> dict[str, Tensor]:
        features = self.body(image)
        outputs = {"features": features, "logits": self.head(features)}
        return outputs | {"aux_half": self.aux_head(image)} if self.training else outputs


def hierarchical(**options: object) -> HierarchicalAttention:
    torch.manual_seed(0)
    return HierarchicalAttention(net=Small(), **{"attention_channels": [8, 8], **options})


def explicit(**options: object) -> ExplicitAttention:
    torch.manual_seed(0)
    return ExplicitAttention(net=Small(), **{"attention_channels": [8], **options})


def constant(value: float, scale: float) -> Tensor:
    return torch.full((1, 1, int(32 * scale), int(48 * scale)), value)


P = {0.25: 8.0, 0.5: 1.0, 1.0: 2.0, 2.0: 4.0}
A = {0.25: 0.1, 0.5: 0.25, 1.0: 0.6, 2.0: 0.9}


# --- the fusion -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scales", "value", "weights"),
    [
        ((0.5, 1.0, 2.0), 2.35, (0.25, 0.45, 0.30)),
        ((0.5, 1.0), 1.75, (0.25, 0.75)),
        ((0.25, 0.5, 1.0, 2.0), 2.915, (0.1, 0.225, 0.405, 0.27)),
        ((1.0,), 2.0, (1.0,)),
        ((2.0, 0.5, 1.0), 2.35, (0.30, 0.25, 0.45)),
    ],
)
def test_worked_values(scales: tuple[float, ...], value: float, weights: tuple[float, ...]) -> None:
    maps, attention = [constant(P[s], s) for s in scales], [constant(A[s], s) for s in scales]
    fused = fuse_hierarchical(maps, attention, scales)
    torch.testing.assert_close(fused, torch.full((1, 1, 32, 48), value))
    each = hierarchical_weights(attention, scales)
    torch.testing.assert_close(each, torch.tensor(weights).view(1, -1, 1, 1).expand(1, -1, 32, 48))


def test_weights_sum_to_one_and_are_what_maps_of_one_value_are_fused_with() -> None:
    scales = (0.25, 0.5, 1.0, 1.3, 2.0)
    attention = [torch.rand(2, 1, int(33 * s), int(47 * s)) for s in scales]
    weights = hierarchical_weights(attention, scales)
    assert weights.shape == (2, 5, 33, 47)
    assert weights.min() >= -1e-6
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2, 33, 47))
    values = torch.randn(5, 3)
    maps = [v.view(1, 3, 1, 1).expand(2, 3, *a.shape[-2:]) for v, a in zip(values, attention, strict=True)]
    expected = torch.einsum("bshw,sc->bchw", weights, values)
    torch.testing.assert_close(fuse_hierarchical(maps, attention, scales), expected, rtol=1e-4, atol=1e-5)


def test_the_product_is_formed_before_it_is_resized() -> None:
    low, high = torch.randn(1, K, 16, 24), torch.randn(1, K, 32, 48)
    attention = torch.rand(1, 1, 16, 24)
    expected = resize(attention * low, (32, 48)) + (1 - resize(attention, (32, 48))) * high
    other = [torch.rand(1, 1, 32, 48), torch.zeros(1, 1, 32, 48)]  # that of the largest scale is not used
    for unused in other:
        assert torch.equal(fuse_hierarchical([low, high], [attention, unused], (0.5, 1.0)), expected)


def test_above_one_the_finer_result_is_resized_down() -> None:
    plain, double = torch.randn(1, K, 32, 48), torch.randn(1, K, 64, 96)
    attention = torch.rand(1, 1, 32, 48)
    expected = attention * plain + (1 - attention) * resize(double, (32, 48))
    given = fuse_hierarchical([plain, double], [attention, torch.rand(1, 1, 64, 96)], (1.0, 2.0))
    assert torch.equal(given, expected)


# --- hierarchical ---------------------------------------------------------------------------------------------------


def test_training_on_two_scales_is_evaluation_on_them() -> None:
    net, image = hierarchical(low_scale=0.6, scales=[1.0, 0.6]).eval(), torch.randn(2, 3, 65, 90)
    evaluated = net(image)["logits"]
    net.training = True  # of the wrapper alone: norms stay in evaluation
    assert torch.equal(net(image)["logits"], evaluated)


def test_one_scale_is_the_net_alone() -> None:
    net, image = hierarchical(scales=[1.0]).eval(), torch.randn(2, 3, 65, 90)
    outputs = net(image)
    assert torch.equal(outputs["logits"], net.net(image)["logits"])
    assert torch.equal(outputs["weights"], torch.ones(2, 1, 65, 90))


def test_evaluation_shows_attention_and_weights_in_the_order_of_sorted_scales() -> None:
    net, image = hierarchical(scales=[2, 0.5, 1]).eval(), torch.randn(2, 3, 65, 90)
    assert net.scales == (0.5, 1.0, 2.0)
    outputs = net(image)
    assert outputs.keys() == {"logits", "attention", "weights"}
    assert outputs["attention"].shape == outputs["weights"].shape == (2, 3, 65, 90)
    torch.testing.assert_close(outputs["weights"].sum(dim=1), torch.ones(2, 65, 90))
    for i, scale in enumerate(net.scales):
        alone = net.at_scale(image, scale)["attention"]
        assert alone.shape[-2:] == (int(65 * scale), int(90 * scale))
        assert torch.equal(outputs["attention"][:, i : i + 1], resize(alone, (65, 90)))


def test_features_are_those_of_the_whole_image() -> None:
    net, image = hierarchical(scales=[0.5, 1.0, 1.5]).eval(), torch.randn(1, 3, 64, 96)
    assert torch.equal(net.decode(image)["features"], net.net.decode(image)["features"])


def test_auxiliary_outputs_are_fused_with_the_same_attention() -> None:
    net, image = hierarchical().train(), torch.randn(2, 3, 64, 96)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eval()
    passes = [net.at_scale(image, scale) for scale in (0.5, 1.0)]
    maps, attention = [[each[name] for each in passes] for name in ("aux_half", "attention")]
    assert torch.equal(net(image)["aux_half"], fuse_hierarchical(maps, attention, (0.5, 1.0)))


def test_supervision_adds_the_prediction_of_each_scale_at_the_images_size() -> None:
    net, image = hierarchical(supervise=True).train(), torch.randn(2, 3, 64, 96)
    assert net(image).keys() == {"logits", "aux_half", "aux_scale_050", "aux_scale_100"}
    assert net(image)["aux_scale_050"].shape == (2, K, 64, 96)
    net.eval()
    net.training = True
    assert torch.equal(net(image)["aux_scale_100"], net.at_scale(image, 1.0)["logits"])
    assert torch.equal(net(image)["aux_scale_050"], resize(net.at_scale(image, 0.5)["logits"], (64, 96)))


def test_both_scales_update_the_running_statistics() -> None:
    net = hierarchical().train()
    net(torch.randn(2, 3, 64, 96))
    assert all(part.num_batches_tracked == 2 for part in net.modules() if isinstance(part, nn.BatchNorm2d))


def test_the_released_head_has_its_parameters() -> None:
    net = Small()
    net.feature_channels = 512
    assert sum(p.numel() for p in HierarchicalAttention(net=net).attention.parameters()) == 1_770_752


def test_a_zero_start_trusts_both_scales_alike_and_can_learn() -> None:
    net, image = hierarchical(zero_init=True).eval(), torch.randn(1, 3, 64, 96)
    assert torch.equal(net(image)["attention"], torch.full((1, 2, 64, 96), 0.5))
    net.train()(torch.randn(2, 3, 64, 96))["logits"].square().sum().backward()
    assert net.attention.last.weight.grad.abs().sum() > 0


def test_dropout_of_the_head_is_of_training_alone() -> None:
    net, image = hierarchical(attention_dropout=0.5).eval(), torch.randn(2, 3, 64, 96)
    assert torch.equal(net(image)["attention"], net(image)["attention"])
    net.attention.dropout.train()
    assert not torch.equal(net(image)["attention"], net(image)["attention"])


def test_another_list_may_be_assigned_after_training() -> None:
    net, image = hierarchical().eval(), torch.randn(1, 3, 128, 128)
    net.scales = [2, 1.0, 0.25, 0.5]
    assert net.scales == (0.25, 0.5, 1.0, 2.0)
    assert net(image)["weights"].shape == (1, 4, 128, 128)
    with pytest.raises(UserError, match=r"1\.0 must be among them"):
        net.scales = [0.5]


@pytest.mark.slow
def test_export_keeps_the_size_free_below_and_above_one() -> None:
    net = hierarchical(scales=[0.5, 1.0, 1.5]).eval()
    free = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height", min=66), 3: torch.export.Dim("width", min=66)}
    program = torch.export.export(net, (torch.randn(2, 3, 96, 128),), dynamic_shapes={"image": free}).module()
    for shape in ((1, 3, 66, 131), (3, 3, 97, 70)):
        image = torch.randn(shape)
        for name, given in program(image).items():
            torch.testing.assert_close(given, net(image)[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [hierarchical, explicit])
@pytest.mark.parametrize(
    ("scales", "words"),
    [
        ([0.5, 2.0], "1.0 must be among them"),
        ([], "a list of factors"),
        ([1.0, 0.5, 0.501], "each scale once"),
        ([0, 1.0], "above 0"),
        ([-0.5, 1.0], "above 0"),
        ([float("nan"), 1.0], "above 0"),
        (["0.5", 1.0], "above 0"),
    ],
    ids=str,
)
def test_impossible_lists_are_refused(make, scales: list[float], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        make(scales=scales)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (hierarchical, {"low_scale": 1.0}, "low_scale is 1.0"),
        (hierarchical, {"low_scale": 0}, "low_scale=0"),
        (hierarchical, {"attention_channels": [0]}, r"attention_channels=\[0\]"),
        (explicit, {"attention_dropout": 1}, "attention_dropout is 1"),
        (explicit, {"scales": [1.0]}, "two or more"),
    ],
)
def test_impossible_options_are_refused(make, options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make(**options)


@pytest.mark.parametrize("make", [hierarchical, explicit])
def test_an_image_that_is_too_small_at_a_scale_is_refused(make) -> None:
    net = make(scales=[0.5, 1.0]).eval()
    net(torch.randn(1, 3, 64, 64))
    with pytest.raises(UserError, match=r"63x80 .* becomes 31x40 at scale 0\.5, .* 32x32"):
        net(torch.randn(1, 3, 63, 80))


# --- explicit -------------------------------------------------------------------------------------------------------


def test_explicit_weights_sum_to_one_and_weigh_the_logits() -> None:
    net, image = explicit().eval(), torch.randn(2, 3, 64, 90)
    outputs = net(image)
    assert outputs.keys() == {"logits", "attention", "weights"}
    torch.testing.assert_close(outputs["weights"].sum(dim=1), torch.ones(2, 64, 90))
    own = [
        resize(net.net.decode(image if s == 1 else resize(image, (int(64 * s), int(90 * s))))["logits"], (64, 90))
        for s in (0.5, 1.0, 2.0)
    ]
    expected = torch.einsum("bshw,sbkhw->bkhw", outputs["weights"], torch.stack(own))
    torch.testing.assert_close(outputs["logits"], expected, rtol=1e-4, atol=1e-5)


def test_an_explicit_head_without_preference_averages() -> None:
    net, image = explicit(scales=[1.0, 0.5]).eval(), torch.randn(1, 3, 64, 96)
    for p in net.attention.last.parameters():
        nn.init.zeros_(p)
    assert torch.equal(net(image)["weights"], torch.full((1, 2, 64, 96), 0.5))


def test_explicit_supervision_is_of_every_scale_and_can_be_left_out() -> None:
    image = torch.randn(2, 3, 64, 96)
    fused = {"logits", "aux_half"}
    assert explicit().train()(image).keys() == fused | {"aux_scale_050", "aux_scale_100", "aux_scale_200"}
    assert explicit(supervise=False).train()(image).keys() == fused


def test_the_explicit_head_with_norms_has_no_biases() -> None:
    net = explicit(attention_channels=[8, 8], norm=True)
    assert [name for name, p in net.attention.named_parameters() if name.endswith("conv.bias")] == []
    assert net.attention.last.bias is None


@pytest.mark.parametrize("other", [[0.5, 1.0, 1.5], [0.5, 1.0], [0.25, 0.5, 1.0, 2.0]], ids=str)
def test_explicit_weights_refuse_another_list(other: list[float]) -> None:
    state = explicit().state_dict()
    explicit(scales=[2, 1, 0.5]).load_state_dict(state)
    with pytest.raises(UserError, match=r"trained at: set model\.scales\.scales=\[0\.5, 1\.0, 2\.0\]") as caught:
        explicit(scales=other).load_state_dict(state)
    assert "\n" not in str(caught.value)


# --- inference, configs, checkpoints ----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [hierarchical, explicit])
def test_flips_commute_and_other_scales_are_not_stacked(make) -> None:
    net, image = make(scales=[0.5, 1.0, 1.5]).eval(), torch.randn(1, 3, 64, 98)
    both = Inference(flip=True)
    with torch.no_grad():
        torch.testing.assert_close(both(net, image.flip(3)).flip(3), both(net, image), rtol=1e-4, atol=1e-5)
        for scales in ([2.0], [1.0, 2.0]):
            with pytest.raises(UserError, match=r"inference\.scales=.* stacked .* inference\.scales=\[1\.0\]"):
                Inference(scales)(net, image)


def config(*overrides: str) -> DictConfig:
    tiny = ["data.length={train: 4, val: 2, test: 2}", "data.size=[64,96]", "data.num_workers=0", "run_dir=runs/x"]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", overrides=[*overrides, *tiny])


def module_of(cfg: DictConfig) -> SegmentationModule:
    return from_config.build_module(cfg, from_config.build_datamodule(cfg).label_space)


SMALL_TRUNK = ["model.net.backbone.name=hrnet_w18_small", "model.net.mid_channels=32"]
NARROW = "model.net.width_multiplier=0.25"
SUPERVISE = ["model.scales.supervise=true", *(f"+model.aux_weights.aux_scale_{s}=0.05" for s in ("050", "100"))]


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=bisenetv2", "model/scales=hierarchical", NARROW],
        ["model=bisenetv2", "model/scales=explicit", NARROW],
        ["model=hrnet_ocr_hierarchical", *SMALL_TRUNK, *SUPERVISE],
        ["model=hrnet_ocr_explicit", *SMALL_TRUNK, "model.net.backbone.checkpointing=true"],
    ],
    ids=lambda overrides: " ".join(overrides[:2]),
)
def test_a_config_takes_a_training_step(overrides: list[str]) -> None:
    module = module_of(config(*overrides, "schedule.warmup_steps=0"))
    optimizer = module._make_optimizer(module.net, 1)
    before = {name: p.detach().clone() for name, p in module.net.attention.named_parameters()}
    loss, parts = module.supervision(module.net.train()(torch.randn(2, 3, 64, 96)), torch.randint(11, (2, 64, 96)))
    loss.backward()
    optimizer.step()
    assert loss.isfinite()
    assert set(parts) == {"logits", *module.supervision.aux_weights}
    assert all(not torch.equal(p, before[name]) for name, p in module.net.attention.named_parameters())


def test_the_command_line_wins_over_the_scales_of_a_model() -> None:
    assert config("model=hrnet_ocr_hierarchical").model.scales._target_.endswith("HierarchicalAttention")
    assert config("model=hrnet_ocr_explicit").model.scales._target_.endswith("ExplicitAttention")
    assert config("model=hrnet_ocr_hierarchical", "model/scales=none").model.scales is None
    assert config("model=hrnet_ocr").model.scales is None


def saved(folder: Path, scales: str) -> Path:
    """A checkpoint of an untrained net."""
    module = module_of(config("model=bisenetv2", f"model/scales={scales}", NARROW))
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, folder / f"{scales}.ckpt")
    return folder / f"{scales}.ckpt"


def test_a_checkpoint_is_used_at_its_own_scales_or_at_others(tmp_path: Path) -> None:
    file, image = saved(tmp_path, "hierarchical"), torch.randint(256, (1, 3, 64, 96), dtype=torch.uint8)
    own = from_checkpoint.load_module(file)
    assert own.net.scales == (0.5, 1.0)
    model = from_checkpoint.saved_config(file).model
    model.scales.scales = [0.5, 1, 2]
    other = from_checkpoint.load_module(file, model=model)
    assert other.net.scales == (0.5, 1.0, 2.0)
    assert not torch.equal(own.scores(image), other.scores(image))
    own.net.scales = [0.5, 1, 2]
    assert torch.equal(own.scores(image), other.scores(image))


@pytest.mark.parametrize("root", ["evaluate", "predict"])
def test_the_scales_of_a_checkpoint_are_options_of_its_use(tmp_path: Path, root: str) -> None:
    file = saved(tmp_path, "hierarchical")
    PREPARE[root]([f"ckpt={file}"])
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        plain = compose(root, overrides=[f"ckpt={file}"])
        other = compose(root, overrides=[f"ckpt={file}", "model.scales.scales=[0.5,1,2]"])
    assert from_checkpoint.load_module(file, model=plain.model).net.scales == (0.5, 1.0)
    assert from_checkpoint.load_module(file, model=other.model).net.scales == (0.5, 1.0, 2.0)


def test_a_checkpoint_of_explicit_attention_refuses_other_scales(tmp_path: Path) -> None:
    file = saved(tmp_path, "explicit")
    model = from_checkpoint.saved_config(file).model
    model.scales.scales = [0.5, 1, 1.5]
    with pytest.raises(UserError, match="explicit attention works only at those it was trained at"):
        from_checkpoint.load_module(file, model=model)
