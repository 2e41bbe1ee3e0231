"""OCR: what must hold for any weights, and the published counts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from src.errors import UserError
from src.models import OCRNet
from src.models.backbones import create_backbone
from src.models.ocr import ObjectContext, gather_regions

B, C, K, H, W = 2, 8, 5, 6, 10


def context(**options: object) -> ObjectContext:
    given = {"extra_channels": 0, "dropout": 0.0, "scale": 1.0, "query_stride": 1, **options}
    return ObjectContext(C, 4, **given).eval()


def small(**options: object) -> OCRNet:
    trunk = create_backbone("resnet18", output_stride=8)
    return OCRNet(**{"num_classes": K, "backbone": trunk, "mid_channels": 16, "key_channels": 8, **options})


def test_regions_are_means_over_positions_with_the_softmax_of_one_class() -> None:
    pixels, logits = torch.randn(B, C, H, W), torch.randn(B, K, H, W)
    regions = gather_regions(pixels, logits, scale=0.7)
    for b in range(B):
        for k in range(K):
            weights = (0.7 * logits[b, k]).flatten().softmax(0).view(H, W)
            torch.testing.assert_close(regions[b, :, k], (weights * pixels[b]).sum(dim=(1, 2)))


def test_a_sure_region_is_its_one_pixel() -> None:
    pixels, logits = torch.randn(1, C, H, W), torch.zeros(1, K, H, W)
    logits[0, 3, 2, 7] = 100
    torch.testing.assert_close(gather_regions(pixels, logits)[0, :, 3], pixels[0, :, 2, 7])


def test_the_order_of_regions_does_not_matter() -> None:
    block, pixels, logits = context(), torch.randn(B, C, H, W), torch.randn(B, K, H, W)
    shuffled = logits[:, torch.randperm(K)]
    given = [block(pixels, each, [], align_corners=False) for each in (logits, shuffled)]
    torch.testing.assert_close(*given, rtol=1e-4, atol=1e-5)


def test_shuffled_pixels_give_the_shuffled_result() -> None:
    block, order = context(), torch.randperm(H * W)
    pixels, logits = torch.randn(B, C, H, W), torch.randn(B, K, H, W)

    def shuffle(x: Tensor) -> Tensor:
        return x.flatten(2)[..., order].view_as(x)

    expected = shuffle(block(pixels, logits, [], align_corners=False))
    given = block(shuffle(pixels), shuffle(logits), [], align_corners=False)
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-5)


def test_the_query_attends_to_the_regions_with_a_scaled_softmax() -> None:
    block, pixels, logits = context(), torch.randn(B, C, H, W), torch.randn(B, K, H, W)
    regions = gather_regions(pixels, logits)[..., None]
    query, key, value = block.query(pixels).flatten(2), block.key(regions)[..., 0], block.value(regions)[..., 0]
    weights = (query.mT @ key / 4**0.5).softmax(dim=2)  # (B,N,K)
    mixed = block.context((value @ weights.mT).view(B, 4, H, W))
    expected = block.merge(torch.cat([mixed, pixels], dim=1))
    torch.testing.assert_close(block(pixels, logits, [], align_corners=False), expected)


def test_pooled_queries_keep_the_context_of_an_even_image() -> None:
    pixels, logits = torch.randn(B, C, 1, 1).expand(B, C, H, W), torch.randn(B, K, H, W)
    plain, pooled = context(), context(query_stride=4)
    pooled.load_state_dict(plain.state_dict())
    given = [block(pixels, logits, [], align_corners=False) for block in (plain, pooled)]
    torch.testing.assert_close(*given)
    assert given[0].std() > 0


def test_memory_grows_linearly_with_the_pixels() -> None:
    def saved(side: int) -> int:
        total = 0

        def count(tensor: Tensor) -> Tensor:
            nonlocal total
            total += tensor.numel()
            return tensor

        pixels, logits = torch.randn(1, C, side, side), torch.randn(1, K, side, side)
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            context()(pixels.requires_grad_(), logits.requires_grad_(), [], align_corners=False)
        return total

    assert saved(64) < 4.1 * saved(32)  # four times the pixels


def test_regions_read_the_last_stage_but_one_and_pixels_the_last() -> None:
    net = small(concat_features=False, region_channels=12, region_kernel_size=3, bias=False)
    assert net.region_head.convs[0].conv.weight.shape == (12, 256, 3, 3)
    assert net.pixels.conv.weight.shape == (16, 512, 3, 3)
    assert net.pixels.conv.bias is None


def test_regions_at_another_stride_than_the_pixels_are_placed_on_them() -> None:
    net = small(backbone=create_backbone("resnet18"), concat_features=False).train()
    outputs = net.decode(torch.randn(2, 3, 97, 130))
    assert outputs["aux_regions"].shape[-2:] == (7, 9)
    assert outputs["logits"].shape[-2:] == outputs["features"].shape[-2:] == (4, 5)


def test_the_head_of_the_text_reads_the_same_features() -> None:
    bare, text = small().eval(), small(head_channels=[12, 12]).eval()
    assert [conv.conv.out_channels for conv in text.head.convs] == [12, 12]
    text.load_state_dict(bare.state_dict() | {k: v for k, v in text.state_dict().items() if k.startswith("head.")})
    image = torch.randn(1, 3, 64, 64)
    assert torch.equal(bare.decode(image)["features"], text.decode(image)["features"])


def test_dropout_is_of_training_alone() -> None:
    net, image = small(dropout=0.5), torch.randn(2, 3, 64, 64)
    dropped = net.train().decode(image)["features"].flatten(2).abs().sum(dim=2) == 0
    assert 0.2 < dropped.float().mean() < 0.9
    assert torch.equal(net.eval()(image)["logits"], net(image)["logits"])


def test_an_aspp_branch_widens_the_merge_and_is_used() -> None:
    net = small(aspp_rates=[2, 3])
    assert net.context.merge.conv.in_channels == 16 + 16 + 8
    net.train().decode(torch.randn(2, 3, 64, 64))["logits"].sum().backward()
    assert all(p.grad.abs().sum() > 0 for name, p in net.aspp.named_parameters() if name.endswith("conv.weight"))


def test_checkpointing_changes_neither_gradients_nor_statistics() -> None:
    image, results = torch.randn(2, 3, 64, 64), []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        trunk = create_backbone("hrnet_w18_small", checkpointing=checkpointing)
        net = small(backbone=trunk, dropout=0.2).train()
        sum(x.square().mean() for x in net(image).values()).backward()
        results.append(net.state_dict() | {f"grad {name}": p.grad for name, p in net.named_parameters()})
    torch.testing.assert_close(*results)


def test_the_block_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        net = OCRNet(num_classes=19, backbone=create_backbone("hrnet_w48"))

    def count(*parts: torch.nn.Module) -> int:
        return sum(p.numel() for part in parts for p in part.parameters())

    assert count(net.backbone) == 65_325_120
    assert count(net.pixels) == 3_319_296
    assert count(net.context) == 1_184_256
    assert count(net.head) == 9_747
    assert count(net.region_head) == 534_259


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mid_channels": 0}, "mid_channels=0"),
        ({"key_channels": 1.5}, "key_channels=1.5"),
        ({"query_stride": 0}, "query_stride=0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"region_scale": 0}, "region_scale=0"),
        ({"aspp_rates": []}, "aspp_rates"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_impossible_options_are_refused_in_one_sentence(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        small(**options)
    assert "\n" not in str(caught.value)
