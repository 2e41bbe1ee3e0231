"""Criteria ``(logits, label) -> scalar`` and their sum over a net's named outputs.

One masking rule for all: pixels labelled ``ignore_index`` count neither in a numerator nor in a denominator, and a
batch without any valid pixel has a gradient graph, a gradient of 0 and the loss 0 (for ``RMILoss`` the constant that
classes add which do not occur). No criterion talks to other ranks.
"""

from .bce import BCELoss
from .cross_entropy import CrossEntropyLoss, ImageWeightedCELoss
from .masking import Criterion
from .ohem import OHEMCrossEntropyLoss
from .rmi import RMILoss
from .smp_losses import DiceLoss, FocalLoss, LovaszLoss
from .supervision import Supervision
from .weighted_sum import WeightedSum

__all__ = [
    "BCELoss",
    "Criterion",
    "CrossEntropyLoss",
    "DiceLoss",
    "FocalLoss",
    "ImageWeightedCELoss",
    "LovaszLoss",
    "OHEMCrossEntropyLoss",
    "RMILoss",
    "Supervision",
    "WeightedSum",
]
