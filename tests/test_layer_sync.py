"""Batch norm over devices keeps the activations that timm holds in its norms."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import nn

from src.models.backbones import create_backbone
from src.training.batch_norm import SyncBatchNorms


@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv2_035"])
def test_conversion_changes_no_output(name: str) -> None:
    torch.manual_seed(0)
    backbone = create_backbone(name, output_stride=16).eval()
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        before = backbone(image)
        after = SyncBatchNorms().apply(backbone)(image)
    assert any(isinstance(part, nn.SyncBatchNorm) for part in backbone.modules())
    for expected, got in zip(before, after, strict=True):
        torch.testing.assert_close(got, expected)


@pytest.fixture
def _alone() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("_alone")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_statistics_over_processes_are_those_of_the_norm(dtype: torch.dtype) -> None:
    """Of one process they are its own; in mixed precision they stay precise."""
    torch.manual_seed(0)
    own, shared = (nn.BatchNorm2d(3, dtype=torch.promote_types(dtype, torch.float32)) for _ in range(2))
    SyncBatchNorms().apply(nn.Sequential(shared))
    images = [(5 + torch.randn(4, 3, 8, 8)).to(dtype).requires_grad_() for _ in range(2)]
    images[1].data.copy_(images[0])
    expected, got = (norm(image) for norm, image in zip((own, shared), images, strict=True))
    assert expected.dtype == got.dtype
    torch.testing.assert_close(got, expected)
    weight = torch.randn_like(got)
    for output in (expected, got):
        (output * weight).sum().backward()
    loose = {"rtol": 0.02, "atol": 1e-3} if dtype == torch.bfloat16 else {}
    torch.testing.assert_close(images[1].grad, images[0].grad, **loose)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        torch.testing.assert_close(getattr(shared, name), getattr(own, name))
