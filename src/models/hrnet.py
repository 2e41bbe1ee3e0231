"""HRNet V2 trunk (Wang et al. 2020, arXiv 1908.07919): parallel branches at 1/4 to 1/32 of the image.

Layers and ImageNet weights are timm's; the fusion of the branches is not: there a coarse map is enlarged by a fixed
factor with nearest neighbours, here bilinearly to the finer map's actual size, so any image of 32x32 pixels or more is
legal. The references for segmentation do so too, in one step or in two (``upsample_by_factor``).
"""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from ..ops.resize import resize
from .layers import recompute
from .net import Backbone

__all__ = ["Exchange", "HRNet"]


class Exchange(nn.Module):
    """One multi-resolution module: each branch on its own, then every branch a sum over all.

    Args:
        module: timm's, whose layers and names are kept.
        align_corners: of the resizes.
        upsample_by_factor: see ``HRNet``.
    """

    branches: nn.ModuleList
    fuse_layers: Any  # by level, a list of modules, one per branch
    fuse_act: nn.Module

    def __init__(self, module: Any, *, align_corners: bool, upsample_by_factor: bool = False) -> None:
        super().__init__()
        self.branches, self.fuse_layers, self.fuse_act = module.branches, module.fuse_layers, module.fuse_act
        self.align_corners, self.upsample_by_factor = align_corners, upsample_by_factor

    def forward(self, *branches: Tensor) -> list[Tensor]:
        """(B,channels[i],h_i,w_i), fine to coarse -> the same shapes."""
        maps = [blocks(x) for blocks, x in zip(self.branches, branches, strict=True)]
        return [
            self.fuse_act(sum(self._to_level(fuse, x, like=maps[level]) for fuse, x in zip(row, maps, strict=True)))
            for level, row in enumerate(self.fuse_layers)
        ]

    def _to_level(self, fuse: nn.Module, x: Tensor, *, like: Tensor) -> Tensor:
        if not (isinstance(fuse, nn.Sequential) and isinstance(fuse[-1], nn.Upsample)):
            return fuse(x)
        x = fuse[:-1](x)
        if self.upsample_by_factor:
            factor = int(cast("float", fuse[-1].scale_factor))
            x = resize(x, [side * factor for side in x.shape[-2:]], align_corners=self.align_corners)
        return resize(x, like.shape[-2:], align_corners=self.align_corners)


class HRNet(Backbone):
    """timm's HRNet with all branches of the last stage: image -> four maps, fine to coarse.

    Args:
        trunk: timm's ``HighResolutionNet``; its classification layers are dropped.
        align_corners: of the resizes between branches.
        upsample_by_factor: a coarser map is first upsampled by the ratio of the strides, then resized to the finer map
            (mmsegmentation). The two agree where 32 divides the image's sides; elsewhere the first result is larger.
        checkpointing: keep one map per branch and module for the backward pass and compute the rest again.
    """

    trunk: Any  # timm's
    needs_all_read = True  # a map that no one reads would leave weights of the last exchange without gradient

    def __init__(
        self,
        trunk: Any,
        *,
        align_corners: bool = False,
        upsample_by_factor: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        for name in ("incre_modules", "downsamp_modules", "final_layer", "global_pool", "head_drop", "classifier"):
            setattr(trunk, name, None)
        self.trunk, self.align_corners, self.checkpointing = trunk, align_corners, checkpointing
        for stage in self.stages():
            for i, module in enumerate(stage):
                stage[i] = Exchange(module, align_corners=align_corners, upsample_by_factor=upsample_by_factor)
        self.channels = list(trunk.stage4_cfg["num_channels"])
        self.strides = [4, 8, 16, 32]

    def stages(self) -> list[nn.Sequential]:
        """The stages with several branches, each a sequence of ``Exchange``."""
        return [self.trunk.stage2, self.trunk.stage3, self.trunk.stage4]

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B,C,H,W) -> (B,w,H/4,W/4), (B,2w,H/8,W/8), (B,4w,H/16,W/16), (B,8w,H/32,W/32) with the width w."""
        trunk = self.trunk
        x = trunk.act1(trunk.bn1(trunk.conv1(image)))
        x = trunk.act2(trunk.bn2(trunk.conv2(x)))
        for block in trunk.layer1:
            x = self._run(block, x)
        branches = [x]
        for transition, stage in zip(
            (trunk.transition1, trunk.transition2, trunk.transition3), self.stages(), strict=True
        ):
            # a transition has one entry per branch of its stage; a new branch starts from the coarsest map
            branches = [change(branches[min(level, len(branches) - 1)]) for level, change in enumerate(transition)]
            for module in stage:
                branches = self._run(module, *branches)
        return branches

    def _run(self, module: nn.Module, *inputs: Tensor) -> Any:
        return recompute(module, *inputs) if self.checkpointing and self.training else module(*inputs)
