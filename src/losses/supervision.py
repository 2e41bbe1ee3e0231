"""The training loss: the main criterion on ``logits`` plus a weighted auxiliary criterion on each other output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from ..errors import UserError
from .masking import Criterion

__all__ = ["Supervision", "reduce_label"]


class Supervision(nn.Module):
    """Sum of a main criterion and weighted auxiliary ones.

    An output smaller than the label, which nets with ``reduced_labels`` give, meets the label reduced to its size.
    Losses are computed in float32, outside autocast, whatever precision the net runs in.

    Args:
        criterion: for ``logits``; a ``Criterion``, or any module with its ``forward``.
        aux_weights: output name -> weight; exactly the names starting with ``aux_`` that the net produces.
        aux_criterion: for every auxiliary output; ``None`` takes ``criterion``.

    Raises:
        UserError: on the first forward, when names and outputs differ.
    """

    def __init__(
        self,
        criterion: nn.Module,
        aux_weights: Mapping[str, float] | None = None,
        *,
        aux_criterion: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.criterion = criterion
        self.aux_criterion = aux_criterion
        self.aux_weights = dict(aux_weights or {})

    def forward(self, outputs: Mapping[str, Tensor], label: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Net outputs (B,K,h,w) by name and label (B,H,W) -> (total, unweighted parts by output name)."""
        self.check_outputs(outputs)
        names = ("logits", *self.aux_weights)
        sizes = {tuple(outputs[name].shape[-2:]) for name in names}
        labels = {size: reduce_label(label, size).long() for size in sizes}  # once for all criteria
        aux_criterion = self.aux_criterion or self.criterion
        parts = {}
        with torch.autocast(label.device.type, enabled=False):
            for name in names:
                criterion = self.criterion if name == "logits" else aux_criterion
                parts[name] = criterion(outputs[name].float(), labels[tuple(outputs[name].shape[-2:])])
        total = parts["logits"] + sum(weight * parts[name] for name, weight in self.aux_weights.items())
        return total, parts

    def logged(self) -> Mapping[str, Tensor]:
        """What the main criterion logs beside its loss, see ``Criterion.logged``."""
        return self.criterion.logged() if isinstance(self.criterion, Criterion) else {}

    def check_outputs(self, names: Iterable[str]) -> None:
        """Refuse a net whose auxiliary outputs are not those that have a weight.

        Args:
            names: of all its outputs in training.

        Raises:
            UserError: naming what is missing, what is unknown, and what there is.
        """
        produced = {name for name in names if name.startswith("aux_")}
        if produced != set(self.aux_weights):
            missing, unknown = sorted(produced - set(self.aux_weights)), sorted(set(self.aux_weights) - produced)
            raise UserError(
                "model.aux_weights does not fit the net:"
                + (f" no weight for {', '.join(missing)};" if missing else "")
                + (f" no output named {', '.join(unknown)};" if unknown else "")
                + f" give a weight to each of {', '.join(sorted(produced)) or 'no outputs, as {}'}"
            )


def reduce_label(label: Tensor, size: Sequence[int]) -> Tensor:
    """The label at the centres of a coarser grid's cells, as Pillow's nearest resize picks them.

    Args:
        label: (B,H,W) integers.
        size: height and width of the grid; a side that is not below the label's is left as it is.

    Returns:
        (B,h,w), or ``label`` itself where both sides stay.
    """
    for dim, (cells, pixels) in enumerate(zip(size, label.shape[1:], strict=True), start=1):
        if cells < pixels:
            centres = (2 * torch.arange(cells, device=label.device) + 1) * pixels // (2 * cells)
            label = label.index_select(dim, centres)
    return label
