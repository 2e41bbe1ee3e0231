"""Data sets, transforms and loaders.

The sample contract, from disk to loss: a dict with

- ``image``: (3,H,W) uint8 RGB as decoded; the LightningModule normalises it on the device,
- ``label``: (H,W) uint8 train ids, 255 = ignore; left out where there is none,
- ``name``: what the sample is called in logs and output files.

A data set is a *source* (``src.data.source.Source``): a listing and a label table in one file. Everything else
(transforms, sampling, batching, seeding) is shared.
"""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else its import asks the network for a newer version

from .datamodule import SegmentationDataModule
from .dataset import SampleKey, SegmentationDataset
from .label_space import IGNORE_INDEX, LabelSpace
from .source import FileSource, Pair, Source

__all__ = [
    "IGNORE_INDEX",
    "FileSource",
    "LabelSpace",
    "Pair",
    "SampleKey",
    "SegmentationDataModule",
    "SegmentationDataset",
    "Source",
]
