"""Deterministic weights and inputs for parity tests.

A reference output is only useful if the weights that produced it can be made
again.  Instead of storing weights, every tensor of a checkpoint is derived from
its name and its shape, so a list of names and shapes (``keys/*.json``) is all
that is needed to rebuild the whole checkpoint bit for bit.

Only numpy's PCG64 bit stream and multiplication are used (uniform numbers, no
normal sampler), because that stream is guaranteed not to change between numpy
releases.

Typical use in a test::

    state = load_keys("keys/bisenetv2_coincheung.json")   # zeros, right names
    fill(state)                                           # deterministic values
    model.load_state_dict(convert(state))                 # the code under test
    x = make_input(height, width, seed)
    compare(model(x), reference)
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import zlib
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

__all__ = ["checksum", "fill", "fill_tensor", "load_keys", "make_input", "thin"]

# Normalisation layers that close a residual branch, or feed a sum of several
# branches.  Their scale is multiplied by _DAMP so that the activations of very deep
# networks stay of order one to ten.  Only names of 1-d tensors are tested.
_RESIDUAL_END = re.compile(
    r"(\bbn3\.weight"  # bottleneck blocks
    r"|layer\d+\.\d+\.bn2\.weight"  # basic blocks (harmless extra damping in bottlenecks)
    r"|branches\.\d+\.\d+\.bn2\.weight"  # basic blocks of high-resolution networks
    r"|increase\.bn\.weight"  # bottleneck blocks of a converted caffe model
    r"|fuse_layers\..*\.weight"  # cross-resolution sums
    r"|(segment|semantic).*\.conv2\.\d*\.?(bn\.)?weight"  # gather-and-expand blocks
    r"|rep\.8\.weight"  # separable residual blocks
    r")$"
)
_DAMP = 0.2


def _bounds(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Interval the uniform numbers of a tensor are drawn from."""
    last = name.rsplit(".", 1)[-1]
    if last == "running_var":
        return 0.5, 1.5
    if last == "running_mean" or last == "bias":
        half = 0.1 * math.sqrt(3.0)  # standard deviation 0.1
        return -half, half
    if len(shape) >= 2:
        fan_in = math.prod(shape[1:])
        # A rectifier halves the second moment, hence variance 2 / fan_in; one-channel
        # (depthwise) filters are usually followed by a 1x1 convolution without a
        # rectifier in between, hence 1 / fan_in.
        variance = (1.0 if shape[1] == 1 and len(shape) == 4 else 2.0) / fan_in
        half = math.sqrt(3.0 * variance)
        return -half, half
    scale = _DAMP if _RESIDUAL_END.search(name) else 1.0
    return 0.8 * scale, 1.2 * scale


def fill_tensor(name: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """The values a tensor called ``name`` of this shape has in a filled checkpoint."""
    if not dtype.is_floating_point:  # num_batches_tracked and the like
        return torch.zeros(shape, dtype=dtype)
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode("utf-8"))))
    low, high = _bounds(name, tuple(shape))
    values = low + (high - low) * generator.random(tuple(shape))
    return torch.from_numpy(np.asarray(values, dtype=np.float32)).to(dtype)


def fill(state_dict: dict[str, Tensor]) -> None:
    """Overwrite every tensor of ``state_dict`` in place, from its name and shape."""
    with torch.no_grad():
        for name, tensor in state_dict.items():
            tensor.copy_(fill_tensor(name, tuple(tensor.shape), tensor.dtype))


def make_input(height: int, width: int, seed: int, batch: int = 1) -> Tensor:
    """A (batch, 3, height, width) float32 image of about zero mean and unit variance.

    Flat 8x8 blocks plus fine noise, so that both large and small receptive fields
    see something.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    rows, cols = -(-height // 8), -(-width // 8)
    coarse = generator.random((batch, 3, rows, cols)) * 2.0 - 1.0
    fine = generator.random((batch, 3, height, width)) * 2.0 - 1.0
    coarse = coarse.repeat(8, axis=2).repeat(8, axis=3)[:, :, :height, :width]
    return torch.from_numpy((1.5 * coarse + 0.85 * fine).astype(np.float32))


def load_keys(path: str | Path) -> OrderedDict[str, Tensor]:
    """An all-zero checkpoint with the names, shapes and dtypes listed in a keys file.

    Names that are two views of one parameter in the source project (listed under
    ``tied``) share one tensor here as well, so that filling gives both the value of
    the later name, as it does in the source project.
    """
    content = json.loads(Path(path).read_text())
    state = OrderedDict(
        (name, torch.zeros(shape, dtype=getattr(torch, dtype))) for name, shape, dtype in content["keys"]
    )
    for later, earlier in content["tied"]:
        state[later] = state[earlier]
    return state


def checksum(state_dict: dict[str, Tensor]) -> str:
    """Short digest of names and values; equal digests mean the fill was reproduced exactly."""
    digest = hashlib.sha256()
    for name, tensor in state_dict.items():
        digest.update(name.encode("utf-8"))
        digest.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).tobytes())
    return digest.hexdigest()[:16]


def thin(array, step: int):
    """The subsampling applied to stored maps: every ``step``-th row and column."""
    return array[..., ::step, ::step]
