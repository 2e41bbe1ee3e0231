"""HRNet V2 trunk (Wang et al. 2020, arXiv 1908.07919): parallel branches at 1/4 to 1/32 of the image.

Layers and ImageNet weights are timm's; the fusion of the branches is not: there a coarse map is enlarged by a fixed
factor with nearest neighbours, here, as in all references for segmentation, bilinearly to the finer map's actual size,
so any image of 32x32 pixels or more is legal.
"""

from __future__ import annotations

from torch import Tensor, nn

from src.models.layers import recompute
from src.ops import resize

__all__ = ["HRNet"]


class HRNet(nn.Module):
    """timm's HRNet with all branches of the last stage: image -> four maps, fine to coarse.

    Args:
        trunk: timm's ``HighResolutionNet``; its classification layers are dropped.
        align_corners: of the resizes between branches.
        checkpointing: keep one map per branch and module for the backward pass and compute the rest again.
    """

    def __init__(self, trunk: nn.Module, *, align_corners: bool = False, checkpointing: bool = False) -> None:
        super().__init__()
        for name in ("incre_modules", "downsamp_modules", "final_layer", "global_pool", "head_drop", "classifier"):
            setattr(trunk, name, None)
        self.trunk, self.align_corners, self.checkpointing = trunk, align_corners, checkpointing
        self.channels = list(trunk.stage4_cfg["num_channels"])
        self.strides = [4, 8, 16, 32]

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B,C,H,W) -> (B,w,H/4,W/4), (B,2w,H/8,W/8), (B,4w,H/16,W/16), (B,8w,H/32,W/32) with the width w."""
        trunk = self.trunk
        x = trunk.act1(trunk.bn1(trunk.conv1(image)))
        x = trunk.layer1(trunk.act2(trunk.bn2(trunk.conv2(x))))
        branches = [x]
        for transition, stage in (
            (trunk.transition1, trunk.stage2),
            (trunk.transition2, trunk.stage3),
            (trunk.transition3, trunk.stage4),
        ):
            # a transition has one entry per branch of its stage; a new branch starts from the coarsest map
            branches = [
                change(branches[min(level, len(branches) - 1)] if level < len(branches) else branches[-1])
                for level, change in enumerate(transition)
            ]
            for module in stage:
                branches = self._exchange(module, branches)
        return branches

    def _exchange(self, module: nn.Module, branches: list[Tensor]) -> list[Tensor]:
        """One multi-resolution module: each branch on its own, then every branch a sum over all."""
        again = self.checkpointing and self.training
        branches = [
            recompute(blocks, x) if again else blocks(x) for blocks, x in zip(module.branches, branches, strict=True)
        ]
        return [
            module.fuse_act(
                sum(self._to_level(fuse, x, like=branches[level]) for fuse, x in zip(row, branches, strict=True))
            )
            for level, row in enumerate(module.fuse_layers)
        ]

    def _to_level(self, fuse: nn.Module, x: Tensor, *, like: Tensor) -> Tensor:
        if isinstance(fuse, nn.Sequential) and isinstance(fuse[-1], nn.Upsample):
            return resize(fuse[:-1](x), like.shape[-2:], align_corners=self.align_corners)
        return fuse(x)
