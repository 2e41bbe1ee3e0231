"""segmentation_models_pytorch: rules by net class. The file is the state dict itself, under our names already."""

from __future__ import annotations

__all__ = ["RULES"]

RULES = {
    # loads into conf/model/smp.yaml with the same arch and encoder
    "SMP": (),
}
