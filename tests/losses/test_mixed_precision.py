"""Hundreds of steps in half precision on street scenes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from src.data.sets.toy_streets import toy_streets
from src.losses import BCELoss, OHEMCrossEntropyLoss, RMILoss, Supervision

STEPS = 200


def _net() -> nn.Module:
    def block(given: int, made: int, stride: int) -> list[nn.Module]:
        return [nn.Conv2d(given, made, 3, stride, 1, bias=False), nn.BatchNorm2d(made), nn.ReLU()]

    head = [nn.Conv2d(16, 11, 1), nn.Upsample(scale_factor=4, mode="bilinear")]
    return nn.Sequential(*block(3, 16, 2), *block(16, 16, 2), *block(16, 16, 1), *head)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("criterion", [RMILoss(), OHEMCrossEntropyLoss()], ids=["rmi", "ohem"])
def test_gradients_stay_finite_and_the_loss_falls(criterion: nn.Module, dtype: torch.dtype) -> None:
    source = toy_streets(split="train", size=[64, 96], length={"train": 16}, seed=0)
    samples = [source.read(index) for index in range(16)]
    images = torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image, _ in samples]) / 127.5 - 1
    labels = torch.stack([torch.from_numpy(label) for _, label in samples])
    supervision = Supervision(criterion, {"aux_same": 0.4}, aux_criterion=BCELoss())
    net, losses = _net(), []
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for step in range(STEPS):
        batch = slice(step % 8 * 2, step % 8 * 2 + 2)
        with torch.autocast("cpu", dtype=dtype):
            logits = net(images[batch])
            assert logits.dtype == dtype
            loss, _ = supervision({"logits": logits, "aux_same": logits}, labels[batch])
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad.isfinite().all() for parameter in net.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-16:]) < sum(losses[:16]) - 16 * 0.3
    assert getattr(criterion, "fallbacks", torch.zeros(())).item() == 0
