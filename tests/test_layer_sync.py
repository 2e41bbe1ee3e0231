"""Batch norm over devices keeps the activations that timm holds in its norms."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from src.layer_sync import SyncBatchNorms
from src.models.backbones import create_backbone


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
