"""Fully convolutional networks, FCN-32s, 16s and 8s (Long, Shelhamer, Darrell, arXiv 1411.4038 and 1605.06211).

Scores of the coarsest feature are upsampled by transposed convolutions, which start as bilinear interpolation, and meet
the scores of finer features (pool4 at 1/16 of the image, pool3 at 1/8) on the way. The three nets share their tensors'
names, so that each starts from the one before with ``init_from``. Two layouts:

* the authors' (``pad_100``): conv1_1 pads 100 pixels, nothing after it pads to keep a size, maps are cropped to meet;
* the usual one: every layer keeps its size, borders are repeated where scores are upsampled, and any backbone with
  features at 1/8, 1/16 and 1/32 of the image will do.

Deviation: the transposed convolutions are class-wise, as the authors' kernels are in effect: theirs are dense, but zero
between classes and never trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UserError
from ..schema.faults import checked
from ..schema.types import Channels, Count, Positive
from .backbones import level_of_stride
from .net import Backbone, Net
from .vgg import VGG16, check_one_fc

__all__ = ["FCN"]

# with pad_100: first row and column of pool4 and pool3 that the upsampled scores meet, and of the image in the logits
SKIP_OFFSETS = {16: 5, 8: 9}
IMAGE_OFFSETS = {32: 19, 16: 27, 8: 31}


class Deconvolution(nn.Module):
    """Class-wise transposed convolution, at first bilinear interpolation.

    Args:
        num_classes: K.
        factor: f of the enlargement, even; the kernel's side is 2f.
        learned: the kernels are trained.
        same: (B,K,h,w) -> (B,K,fh,fw), the border repeated; else (B,K,f(h+1),f(w+1)), fading to zero at the border.
    """

    weight: Tensor

    def __init__(self, num_classes: Count, factor: int, *, learned: bool, same: bool) -> None:
        super().__init__()
        self.factor, self.same = factor, same
        line = 1 - (torch.arange(2 * factor) - (factor - 0.5)).abs() / factor
        kernel = torch.outer(line, line).expand(num_classes, 1, -1, -1).contiguous()
        if learned:
            self.weight = nn.Parameter(kernel)
        else:
            self.register_buffer("weight", kernel)

    def forward(self, scores: Tensor) -> Tensor:
        padding = 0
        if self.same:
            scores = F.pad(scores, (1, 1, 1, 1), mode="replicate")
            padding = self.factor + self.factor // 2
        return F.conv_transpose2d(scores, self.weight, stride=self.factor, padding=padding, groups=len(self.weight))


class FCN(Net):
    """FCN-32s, FCN-16s or FCN-8s.

    ``decode`` gives ``logits`` at the image's size, since the last upsampling belongs to the net.

    Args:
        num_classes: K, see ``Net``.
        backbone: with features at 1/32, 1/16 (FCN-16s) and 1/8 (FCN-8s) of the image; a plain ``VGG16`` in the paper.
        stride: of the finest feature that is scored: 32, 16 or 8.
        pad_100: the authors' layout, for ``VGG16`` alone.
        deconvolution: the upsampling is ``"fixed"`` bilinear (authors' code), ``"inner"`` trains all but the last
            (paper, without a difference in accuracy), ``"learned"`` trains all.
        skip_scales: factors on pool4 and pool3 before they are scored; the at-once FCN-8s has 0.01 and 0.0001.
        in_channels: channels of the image.

    Raises:
        UserError: for values outside these limits, and for a backbone without these features.
    """

    backbone: Backbone

    @checked("model.net")
    def __init__(
        self,
        *,
        num_classes: Count,
        backbone: Backbone,
        stride: Literal[32, 16, 8] = 8,
        pad_100: bool = True,
        deconvolution: Literal["fixed", "inner", "learned"] = "fixed",
        skip_scales: Sequence[Positive] = (1.0, 1.0),
        in_channels: Channels = 3,
    ) -> None:
        super().__init__(num_classes=num_classes, in_channels=in_channels)
        if len(skip_scales) != 2:
            raise UserError(f"skip_scales is {list(skip_scales)}; give two factors above 0, for pool4 and pool3")
        if pad_100:
            if not isinstance(backbone, VGG16) or backbone.dilated:
                raise UserError("pad_100=true is the layout of the plain VGG16; set pad_100=false for other backbones")
            backbone.pad_100()
        check_one_fc(backbone)
        self.backbone, self.pad_100 = backbone, pad_100
        self.skip_scales = dict(zip((16, 8), skip_scales, strict=True))
        self.strides = [each for each in (32, 16, 8) if each >= stride]
        self.levels = [level_of_stride(backbone, each, f"FCN-{stride}s") for each in self.strides]
        self.feature_channels = backbone.channels[self.levels[0]]

        scores = {
            str(s): _zero(backbone.channels[i], num_classes) for s, i in zip(self.strides, self.levels, strict=True)
        }
        self.scores = nn.ModuleDict(scores)
        self.upsample = nn.ModuleDict()
        for coarse, fine in pairwise((*self.strides, 1)):
            learned = deconvolution == "learned" or (deconvolution == "inner" and fine > 1)
            deconv = Deconvolution(num_classes, coarse // fine, learned=learned, same=not pad_100)
            self.upsample[f"{coarse}_to_{fine}"] = deconv

    def decode(self, image: Tensor) -> dict[str, Tensor]:
        """Logits at the image's size; ``features`` is the coarsest feature, fc7 of VGG-16."""
        self.check(image)
        maps = self.backbone(image)
        features = maps[self.levels[0]]
        scores = self.scores["32"](features)
        for (coarse, fine), level in zip(pairwise(self.strides), self.levels[1:], strict=True):
            scores = self.upsample[f"{coarse}_to_{fine}"](scores)
            skip = self.skip_scales[fine] * maps[level]
            if self.pad_100:
                skip = _crop(skip, scores.shape[-2:], SKIP_OFFSETS[fine])
            else:
                scores = _crop(scores, skip.shape[-2:])
            scores = scores + self.scores[str(fine)](skip)
        last = self.strides[-1]
        logits = self.upsample[f"{last}_to_1"](scores)
        return {
            "features": features,
            "logits": _crop(logits, image.shape[-2:], IMAGE_OFFSETS[last] if self.pad_100 else 0),
        }


def _zero(in_channels: int, num_classes: int) -> nn.Conv2d:
    """A 1x1 classifier that starts at zero, without loss of accuracy (section 4.1 of the first paper)."""
    conv = nn.Conv2d(in_channels, num_classes, 1)
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)
    return conv


def _crop(x: Tensor, size: Sequence[int], offset: int = 0) -> Tensor:
    """(B,C,H,W) -> the window (B,C,*size) that starts at row and column ``offset``."""
    if torch.compiler.is_exporting():  # slicing compares sizes, which an exported graph must not
        for dim, side in zip((2, 3), size, strict=True):
            x = x.index_select(dim, torch.arange(side, device=x.device) + offset)
        return x
    return x[..., offset : offset + size[0], offset : offset + size[1]]
