"""Nets on the meta device: sizes, parameters and multiply-adds are real, numbers are not computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch.nn import functional as F


@contextmanager
def on_meta() -> Iterator[None]:
    """New tensors are there; batch norms, slow there, pass their input on: neither a size nor a product is theirs."""
    with torch.device("meta"), patch.object(F, "batch_norm", lambda x, *_, **__: x):
        yield
