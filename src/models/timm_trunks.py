"""timm's models as trunks: created by name, whole or with feature maps, with weights from the hub or a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import UserError
from ..hub.network import hub_without_retries

__all__ = ["create_feature_trunk", "create_trunk", "published_weights"]


def create_trunk(*, name: str, pretrained: bool | str, **options: Any) -> Any:
    """A timm model by name.

    Args:
        name: of the model.
        pretrained: see ``src.models.backbones.create_backbone``.
        **options: other arguments of ``timm.create_model``.

    Raises:
        UserError: if the weights cannot be loaded.
    """
    import timm

    if not pretrained:
        return timm.create_model(name, **options)
    overlay = None
    if pretrained is not True:
        if not Path(pretrained).is_file():
            raise UserError(f"pretrained={pretrained}: no such file; give a file of timm's weights for {name}, or true")
        overlay = {"file": str(pretrained)}
    try:
        with hub_without_retries():
            return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **options)
    except Exception as error:
        cause = str(error).strip().splitlines()
        raise UserError(
            f"the pretrained weights of {name} could not be loaded ({cause[0] if cause else type(error).__name__});"
            " pass a file with model.net.backbone.pretrained=<file>, or start without with pretrained=false"
        ) from error


def create_feature_trunk(*, name: str, pretrained: bool | str, output_stride: int, **common: Any) -> Any:
    """A timm model with feature maps: those that lie at stride 4 or more.

    Args:
        name: of the model.
        pretrained: see ``src.models.backbones.create_backbone``.
        output_stride: asked of the model where it can follow; else it keeps its own strides.
        **common: other arguments of ``timm.create_model``.

    Raises:
        UserError: if it gives no feature maps, or the weights cannot be loaded.
    """
    tries: list[dict[str, Any]] = [{"strict_img_size": False}, {"dynamic_img_size": True}, {}]  # transformers, others
    if output_stride < 32:
        tries = [{**options, "output_stride": output_stride} for options in tries] + tries  # or its fixed strides
    error: Exception | None = None
    for options in tries:
        try:
            with torch.device("meta"):
                trunk = create_trunk(name=name, pretrained=False, features_only=True, **common, **options)
        except (TypeError, AssertionError, NotImplementedError, RuntimeError, AttributeError) as failure:
            error = failure
            continue
        info = trunk.feature_info  # by default some features are left out: the first of a DLA, all but three of a ViT
        kept = zip(info.out_indices, info.reduction(), strict=True)
        options |= {"features_only": True, "out_indices": tuple(level for level, stride in kept if stride >= 4)}
        trunk = create_trunk(name=name, pretrained=pretrained, **common, **options)
        if isinstance(pretrained, str):
            _check_filled(trunk, create_trunk(name=name, pretrained=pretrained, **common, **options), pretrained)
        return trunk
    raise UserError(f"backbone {name} gives no feature maps ({error}); choose another") from error


def _check_filled(trunk: nn.Module, again: nn.Module, file: str) -> None:
    """Refuse a file that did not fill the trunk, which timm does not report; random weights differ from start to start.

    Args:
        trunk: made with the file's weights.
        again: likewise, from another random start.
        file: its path.

    Raises:
        UserError: if less than 90 % of the kernels and matrices came from the file.
    """
    pairs = [(x, y) for x, y in zip(trunk.parameters(), again.parameters(), strict=True) if x.dim() > 1]
    found = sum(torch.equal(x, y) for x, y in pairs)
    if found < 0.9 * len(pairs):
        raise UserError(
            f"pretrained={file}: fits {found} of the backbone's {len(pairs)} weight tensors; give a file of timm's"
            " weights for this very backbone, as model.net.backbone.pretrained=<file>"
        )


def published_weights(name: str) -> str | None:
    """The address at the hub of what ``pretrained=true`` means for a trunk; ``None`` if timm knows of none there."""
    from timm.models import get_pretrained_cfg

    try:
        known = get_pretrained_cfg(name)
    except (RuntimeError, ValueError):
        return None
    if known is None or not known.hf_hub_id:
        return None
    return f"hf://{known.hf_hub_id}/{known.hf_hub_filename or 'model.safetensors'}"
