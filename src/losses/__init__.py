"""Criteria ``(logits, label) -> scalar`` and their sum over a net's named outputs.

One masking rule for all: pixels labelled ``ignore_index`` count neither in a numerator nor in a denominator, and a
batch without any valid pixel has loss 0 with a gradient graph.
"""

from src.losses.cross_entropy import CrossEntropyLoss
from src.losses.ohem import OHEMCrossEntropyLoss
from src.losses.supervision import Supervision

__all__ = ["CrossEntropyLoss", "OHEMCrossEntropyLoss", "Supervision"]
