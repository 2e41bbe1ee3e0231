"""The training loss: the main criterion on ``logits`` plus weighted auxiliary criteria on named outputs."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from src.errors import UserError

__all__ = ["Supervision"]


class Supervision(nn.Module):
    """Sum of a main criterion and weighted auxiliary ones.

    Args:
        criterion: for ``logits`` and for every auxiliary output.
        aux_weights: output name -> weight; exactly the names starting with ``aux_`` that the net produces.

    Raises:
        UserError: on the first forward, when names and outputs differ.
    """

    def __init__(self, criterion: nn.Module, aux_weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.criterion = criterion
        self.aux_weights = dict(aux_weights or {})

    def forward(self, outputs: Mapping[str, Tensor], label: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Net outputs (B,K,H,W) by name and label (B,H,W) -> (total, unweighted parts by output name)."""
        produced = {name for name in outputs if name.startswith("aux_")}
        if produced != set(self.aux_weights):
            missing, unknown = sorted(produced - set(self.aux_weights)), sorted(set(self.aux_weights) - produced)
            raise UserError(
                "model.aux_weights does not fit the net:"
                + (f" no weight for {', '.join(missing)};" if missing else "")
                + (f" no output named {', '.join(unknown)};" if unknown else "")
                + f" the net has {', '.join(sorted(produced)) or 'no auxiliary outputs'}"
            )
        label = label.long()  # once for all criteria
        parts = {name: self.criterion(outputs[name], label) for name in ("logits", *self.aux_weights)}
        total = parts["logits"] + sum(weight * parts[name] for name, weight in self.aux_weights.items())
        return total, parts
