"""Refusals that the nets share: of images, of options and of widths that come out wrong."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, distributed, nn

from ..errors import UserError, nearest

__all__ = ["check_choice", "check_dropout", "check_image", "check_pooled", "check_rates", "scale_counts"]


def check_image(image: Tensor, *, in_channels: int, min_size: int) -> None:
    """Refuse what a net cannot take, from shape and dtype alone, so that nothing waits for the device.

    Args:
        image: should be (B,in_channels,H,W), floating point, with B >= 1 and H, W >= ``min_size`` pixels.

    Raises:
        UserError: naming what was expected and what was given.
    """
    wanted = f"a normalised float image batch (B,{in_channels},H,W)"
    if image.dim() != 4:
        raise UserError(
            f"the net takes {wanted}, got {image.dim()} dimensions {tuple(image.shape)}; add the missing axes"
        )
    if not image.is_floating_point():
        raise UserError(f"the net takes {wanted}, got {image.dtype}; convert and normalise it first")
    if image.shape[0] < 1:
        raise UserError(f"the net takes {wanted}, got an empty batch {tuple(image.shape)}; pass at least one image")
    if image.shape[1] != in_channels:
        raise UserError(f"the net takes {wanted}, got {image.shape[1]} channels; convert the image or set in_channels")
    if image.shape[2] < min_size or image.shape[3] < min_size:
        raise UserError(
            f"the net needs images of at least {min_size}x{min_size} pixels, got {image.shape[2]}x{image.shape[3]}"
            " (height x width); enlarge or pad them"
        )


def check_pooled(norm: nn.Module, x: Tensor) -> None:
    """Refuse to norm a map pooled to one pixel while training on one image: there is one value per channel.

    Raises:
        UserError: unless the norm is frozen or synchronised (on CPUs by the attribute ``synchronised``), which sees the
            images of the other devices too.
    """
    shares = isinstance(norm, nn.SyncBatchNorm) or getattr(norm, "synchronised", False)
    shares = shares and distributed.is_initialized() and distributed.get_world_size() > 1
    if norm.training and x.shape[0] == 1 and not shares:
        raise UserError(
            "the net norms a map that is pooled to one pixel and cannot train on a batch of 1; use a batch of 2 or"
            " more, or with trained weights norms.freeze=statistics"
        )


def check_rates(option: str, rates: Sequence[int]) -> None:
    """Refuse an empty list of atrous rates, and rates that are not whole or below 1.

    Raises:
        UserError: naming the option and its value.
    """
    if not rates or any(rate != int(rate) or rate < 1 for rate in rates):
        raise UserError(f"{option} is {list(rates)}; use one or more whole rates of 1 or more")


def check_choice(option: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a word that is not among ``choices``.

    Raises:
        UserError: naming the option, the value and the choices.
    """
    if value not in choices:
        raise UserError(f"{option} is '{value}'; use one of {', '.join(choices)}.{nearest(str(value), choices)}")


def check_dropout(option: str, value: float) -> None:
    """Refuse a share of what is zeroed in training that leaves nothing.

    Raises:
        UserError: naming the option and its value.
    """
    if not 0 <= value < 1:
        raise UserError(f"{option} is {value}; use a share from 0 to below 1")


def scale_counts(counts: Sequence[int], factor: float, option: str, least: int = 1) -> list[int]:
    """Numbers of channels or layers times a multiplier.

    Raises:
        UserError: naming the option and the results, unless all are whole and ``least`` or more.
    """
    scaled = [count * factor for count in counts]
    if min(scaled) < least or any(abs(count - round(count)) > 1e-6 for count in scaled):
        given = ", ".join(f"{count:g}" for count in scaled)
        raise UserError(f"{option}={factor:g} gives {given} channels or layers; all must be whole and {least} or more")
    return [round(count) for count in scaled]
