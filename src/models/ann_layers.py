"""The blocks of ANN (arXiv 1908.07678): non-local, and asymmetric with a sampler of key and value.

Where text and the authors' released code differ, the code decides: APNB shares query and key (the conference figure
shares key and value), AFNB has separate key and value (the equations have one embedding), query and key have batch norm
and ReLU. mmsegmentation's head differs in widths, biases and dropout. The factors by which the release max-pools its
input have no counterpart here: its output then keeps the small size.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UserError
from .ann_samplers import Sampler
from .layers import ConvNormAct, init_kaiming

__all__ = ["NonLocalBlock"]


class NonLocalBlock(nn.Module):
    """A non-local block, asymmetric with a sampler: (B,C_h,H,W) and (B,C_l,H',W') -> (B,out_channels,H,W).

    Each position of the high level gathers values of the low level's positions, or of S samples of them, by the
    similarity of its query to their keys. W_o widens the gathered context, which then joins the high level.

    Args:
        high_channels: C_h, of the map that queries and is refined.
        low_channels: C_l, of the map that gives key and value; ``None`` is ``high_channels``.
        key_channels: width of query and key.
        value_channels: width of the value.
        context_channels: width of W_o; ``None`` is ``high_channels``.
        out_channels: width after the merge; ``None`` is ``high_channels``.
        sampler: of key and value (P in the equations); ``None`` takes all positions.
        sharing: which of the three embeddings are one module.
        weights: f, how similarities times key_channels^-0.5 become weights: ``softmax`` over the keys, ``rescale``
            (divided by their number), or ``none``.
        merge: ``concat`` of context and high level and a 1x1 convolution, or ``residual``, their sum.
        merge_act: ReLU at the end of the merge convolution.
        zero_init: W_o starts at zero (or the norm after it), so that the first output does not depend on attention.
        context_norm: batch norm after W_o.
        bias: of convolutions before a norm; value and W_o always have one.
        attention: ``naive`` forms the matrix of all similarities; ``fused`` does not: a fused kernel for ``softmax``,
            else the product of keys and values comes first.

    Raises:
        UserError: for an unknown word, a width below 1, or widths that contradict ``sharing`` or ``merge``.
    """

    def __init__(
        self,
        high_channels: int,
        low_channels: int | None = None,
        *,
        key_channels: int = 256,
        value_channels: int = 256,
        context_channels: int | None = None,
        out_channels: int | None = None,
        sampler: Sampler | None = None,
        sharing: Literal["none", "query_key", "key_value", "all"] = "none",
        weights: Literal["softmax", "rescale", "none"] = "softmax",
        merge: Literal["concat", "residual"] = "concat",
        merge_act: bool = True,
        zero_init: bool = True,
        context_norm: bool = False,
        bias: bool = True,
        attention: Literal["fused", "naive"] = "fused",
    ) -> None:
        super().__init__()
        low_channels = low_channels or high_channels
        context_channels, out_channels = context_channels or high_channels, out_channels or high_channels
        _check_sharing(sharing, high=high_channels, low=low_channels, key=key_channels, value=value_channels)
        _check_merge(merge, high=high_channels, context=context_channels, out=out_channels)
        self.high_channels, self.low_channels = high_channels, low_channels
        self.sampler, self.sharing, self.weights, self.attention = sampler, sharing, weights, attention
        self.scale = key_channels**-0.5
        self.query = ConvNormAct(high_channels, key_channels, kernel_size=1, bias=bias)
        if sharing in ("none", "key_value"):
            self.key = ConvNormAct(low_channels, key_channels, kernel_size=1, bias=bias)
        if sharing in ("none", "query_key"):
            self.value = nn.Conv2d(low_channels, value_channels, 1)
        self.context = nn.Conv2d(value_channels, context_channels, 1)  # W_o
        self.context_norm = nn.BatchNorm2d(context_channels) if context_norm else nn.Identity()
        self.merge = None
        if merge == "concat":
            merged = context_channels + high_channels
            self.merge = ConvNormAct(merged, out_channels, kernel_size=1, bias=bias, act=merge_act)
        init_kaiming(self)
        if zero_init:
            last = self.context_norm if isinstance(self.context_norm, nn.BatchNorm2d) else self.context
            nn.init.zeros_(last.weight)

    def forward(self, high: Tensor, low: Tensor | None = None) -> Tensor:
        """``low`` is ``high`` itself where it is not given.

        Raises:
            UserError: for maps of other channels than declared, or batches of different sizes.
        """
        context = self.gather(high, high if low is None else low)
        return high + context if self.merge is None else self.merge(torch.cat([context, high], dim=1))

    def gather(self, high: Tensor, low: Tensor) -> Tensor:
        """W_o of the gathered values, the context before the merge: (B,context_channels,H,W)."""
        self._check_maps(high, low)
        query, key, value = self._embed(high, low)
        size = query.shape[-2:]
        if self.sampler is None:
            key, value = key.flatten(2), value.flatten(2)  # (B,D,N')
        elif value is key:
            (key,) = self.sampler(key)  # (B,D,S)
            value = key
        else:
            key, value = self.sampler(key, value)
        if self.attention == "naive":
            gathered = self._attend(query.flatten(2), key, value)
        else:
            gathered = self._attend_fused(query.flatten(2), key, value)
        return self.context_norm(self.context(gathered.unflatten(2, size)))

    def _embed(self, high: Tensor, low: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value maps; those that are shared are one tensor."""
        query = key = self.query(high)
        if self.sharing in ("none", "key_value"):
            key = self.key(low)
        elif low is not high:
            key = self.query(low)
        return query, key, self.value(low) if self.sharing in ("none", "query_key") else key

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Query (B,D,N), key (B,D,S), value (B,E,S) -> (B,E,N), by the (B,S,N) similarities."""
        similarity = (key * self.scale).mT @ query
        if self.weights == "softmax":
            similarity = similarity.softmax(dim=1)
        elif self.weights == "rescale":
            similarity = similarity / key.shape[2]
        return value @ similarity

    def _attend_fused(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """As ``_attend``, without the similarities."""
        if self.weights != "softmax":
            divisor = key.shape[2] if self.weights == "rescale" else 1
            root = (self.scale / divisor) ** 0.5  # on both factors, so that half precision neither over- nor underflows
            return ((value * root) @ (key * root).mT) @ query  # (B,E,S) x (B,S,D), then x (B,D,N)
        # the kernels need one width, which zeros give without changing a product, and rows that lie in one piece
        width = max(key.shape[1], value.shape[1])
        q, k, v = (F.pad(x, (0, 0, 0, width - x.shape[1])).mT.contiguous()[:, None] for x in (query, key, value))
        gathered = F.scaled_dot_product_attention(q, k, v, scale=self.scale)  # (B,1,N,width)
        return gathered[:, 0, :, : value.shape[1]].mT

    def _check_maps(self, high: Tensor, low: Tensor) -> None:
        given, declared = (high.shape[1], low.shape[1]), (self.high_channels, self.low_channels)
        if given != declared:
            raise UserError(f"the block was made for maps of {declared} channels, got {given}; declare those widths")
        if high.shape[0] != low.shape[0]:
            raise UserError(
                f"the two levels hold {high.shape[0]} and {low.shape[0]} images; give both features of the same images"
            )


def _check_sharing(sharing: str, *, high: int, low: int, key: int, value: int) -> None:
    if sharing in ("query_key", "all") and high != low:
        raise UserError(
            f"sharing is '{sharing}', but the query reads {high} channels and the key {low};"
            " use none or key_value between levels of different width"
        )
    if sharing in ("key_value", "all") and key != value:
        raise UserError(
            f"sharing is '{sharing}', but key_channels is {key} and value_channels is {value}; make them equal"
        )


def _check_merge(merge: str, *, high: int, context: int, out: int) -> None:
    if merge == "residual" and not high == context == out:
        raise UserError(
            f"merge is 'residual', but the map has {high} channels, its context {context} and the result {out};"
            " make them equal or use concat"
        )
