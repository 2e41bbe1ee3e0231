"""Non-local neural network (Wang et al., CVPR 2018, arXiv 1711.07971): every position is a weighted sum of all.

The block is the paper's, with all four forms of f (section 3.2). The paper is about video; the segmentation net around
the block is that of mmsegmentation: a 3x3 convolution on either side and a last one that reads the trunk again.
Deviation: sub-sampling keeps the last row and column of odd maps.

Axes: B images, C channels, D inner channels, N = H * W positions, S <= N sub-sampled positions.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..schema.faults import checked
from ..schema.types import Channels, Count, Share
from .layers import ConvNormAct, FCNHead, auxiliary_head, init_kaiming
from .net import Backbone, Net

__all__ = ["NonLocalBlock", "NonLocalNet"]

Form = Literal["embedded_gaussian", "gaussian", "dot_product", "concatenation"]
FORMS = get_args(Form)
Attention = Literal["fused", "naive"]


class NonLocalBlock(nn.Module):
    """z_i = W_z y_i + x_i with y_i = sum_j f(x_i, x_j) g(x_j) / C(x) (equations 1 and 6): (B,C,H,W) -> (B,C,H,W).

    The block starts as the identity: the norm behind W_z has a zero scale (section 4.1).

    Args:
        channels: C.
        reduction: C over the D channels of theta, phi and g.
        form: f, and with it C(x). ``"embedded_gaussian"``: exp(theta_i . phi_j), softmax over j; ``"gaussian"``: the
            same of x itself; ``"dot_product"``: theta_i . phi_j / N; ``"concatenation"``: ReLU(w [theta_i, phi_j]) / N.
        scale: divide products by the root of their length before a softmax (not in the paper, but in
            mmsegmentation).
        subsample: 2x2 max-pooling of phi and g, a quarter of the pairs.
        attention: ``"fused"`` does not hold the N x S pairs (but concatenation must, and gaussian does on the CPU);
            ``"naive"`` does and gives the same numbers, to compare memory.

    Raises:
        UserError: for a value outside these limits.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: Count = 2,
        form: Form = "embedded_gaussian",
        scale: bool = False,
        subsample: bool = False,
        attention: Attention = "fused",
    ) -> None:
        super().__init__()
        inner = max(channels // reduction, 1)
        self.form, self.scale, self.attention = form, scale, attention
        self.theta = self.phi = None
        if form != "gaussian":
            self.theta, self.phi = nn.Conv2d(channels, inner, 1), nn.Conv2d(channels, inner, 1)
        self.pair = nn.Conv2d(2 * inner, 1, 1, bias=False) if form == "concatenation" else None  # w
        self.g = nn.Conv2d(channels, inner, 1)
        self.pool = nn.MaxPool2d(2, ceil_mode=True) if subsample else nn.Identity()
        self.out = ConvNormAct(inner, channels, kernel_size=1, act=False)  # W_z
        init_kaiming(self)
        nn.init.zeros_(self.out.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        theta = x if self.theta is None else self.theta(x)
        phi = self.pool(x if self.phi is None else self.phi(x))
        query, key, value = (_positions(each) for each in (theta, phi, self.pool(self.g(x))))
        if self.form == "dot_product":
            y = self._dot_product(query, key, value)
        elif self.form == "concatenation":
            y = self._concatenation(theta, phi, value)
        else:
            y = self._softmax(query, key, value)
        return x + self.out(y.mT.unflatten(2, x.shape[-2:]))

    def _softmax(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(B,N,D), (B,S,D), (B,S,D) -> (B,N,D); in the gaussian form query and key have C channels."""
        scale = query.shape[-1] ** -0.5 if self.scale else 1.0
        if self.attention == "fused":
            query, key, value = (each[:, None] for each in (query, key, value))  # one head: (B,1,N,D)
            return F.scaled_dot_product_attention(query, key, value, scale=scale)[:, 0]
        return (query * scale @ key.mT).softmax(dim=-1) @ value

    def _dot_product(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Without a softmax the product of key and value, (B,D,D), can come first."""
        share = key.shape[1] ** -0.5  # on both factors, so that half precision holds the sums
        if self.attention == "fused":
            return query @ ((key * share).mT @ (value * share))
        return (query * share @ key.mT) @ (value * share)

    def _concatenation(self, theta: Tensor, phi: Tensor, value: Tensor) -> Tensor:
        """w [theta_i, phi_j] is a sum of two numbers, one of i and one of j."""
        assert self.pair is not None  # of this form
        of_query, of_key = self.pair.weight.chunk(2, dim=1)
        query, key = F.conv2d(theta, of_query).flatten(1), F.conv2d(phi, of_key).flatten(1)  # (B,N), (B,S)
        pairs = F.relu(query[:, :, None] + key[:, None, :])  # (B,N,S)
        return pairs @ (value / value.shape[1])


class NonLocalNet(Net):
    """Trunk, 3x3 convolution, non-local block, two more 3x3 convolutions, classifier.

    The last convolution reads the trunk's feature beside the result. ``decode`` gives ``logits`` at the output stride
    and, in training, ``aux_stage4`` at the size of the deepest feature but one.

    Args:
        backbone: see ``src.models.backbones``.
        num_classes: K, at least 2.
        in_channels: channels of the image.
        channels: width of the head and of the block.
        reduction, form, scale, subsample, attention: see ``NonLocalBlock``.
        dropout: share of head channels dropped in training.
        aux_channels: width of the 3x3 convolution of the auxiliary head on the deepest feature but one; ``None`` is no
            head.
        align_corners: of the resize to the image's size.

    Raises:
        UserError: for a value outside these limits.
    """

    backbone: Backbone

    @checked("model.net")
    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: Count,
        in_channels: Channels = 3,
        channels: Channels = 512,
        reduction: Count = 2,
        form: Form = "embedded_gaussian",
        scale: bool = False,
        subsample: bool = False,
        attention: Attention = "fused",
        dropout: Share = 0.1,
        aux_channels: Channels | None = 256,
        align_corners: bool = False,
    ) -> None:
        super().__init__(num_classes=num_classes, in_channels=in_channels, align_corners=align_corners)
        self.backbone, self.feature_channels = backbone, channels
        self.before = ConvNormAct(backbone.channels[-1], channels)
        self.block = NonLocalBlock(
            channels, reduction=reduction, form=form, scale=scale, subsample=subsample, attention=attention
        )
        self.after = ConvNormAct(channels, channels)
        self.head = FCNHead(backbone.channels[-1] + channels, [channels], num_classes, dropout=dropout)
        for part in (self.before, self.after, self.head):
            init_kaiming(part)
        self.aux_head = auxiliary_head(backbone, aux_channels, num_classes)

    def decode(self, image: Tensor) -> dict[str, Tensor]:
        self.check(image)
        maps = self.backbone(image)
        x = self.after(self.block(self.before(maps[-1])))
        features = self.head.convs(torch.cat([maps[-1], x], dim=1))
        outputs = {"features": features, "logits": self.head.classify(features)}
        if self.training and self.aux_head is not None:
            outputs["aux_stage4"] = self.aux_head(maps[-2])
        return outputs


def _positions(x: Tensor) -> Tensor:
    """(B,C,H,W) -> (B,HW,C), contiguous as fused attention wants it."""
    return x.flatten(2).mT.contiguous()
