"""Batch norm over all devices, for norms that rectify too."""

from __future__ import annotations

from pytorch_lightning.plugins.layer_sync import LayerSync
from torch import nn

__all__ = ["SyncBatchNorms"]


class SyncBatchNorms(LayerSync):
    """What ``sync_batchnorm=true`` does, without losing activations.

    Many trunks of timm hold a norm and its activation in one module, which torch's own conversion, Lightning's default,
    replaces by a norm alone.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Every batch norm becomes one that shares its statistics; weights are kept."""
        from timm.layers import convert_sync_batchnorm

        return convert_sync_batchnorm(model)

    def revert(self, model: nn.Module) -> nn.Module:
        """Leaves the norms as they are: on one device they work like any other."""
        return model
