"""The public nets, one paper per file.

Every net keeps one contract. ``forward(image)`` takes a normalised float image (B,C,H,W) and returns a dict of tensors:

* ``logits`` (B,K,H,W), before softmax, at the image's size: always;
* ``aux_<name>`` (B,K,H,W): logits of the auxiliary heads, in training mode only.

``decode(image)`` returns the same maps before the last resize, each at its head's resolution, and ``features``, what
the last classifier reads; ``forward`` is ``decode`` plus a bilinear resize (``src.models.net``). A net knows tensors
only: no loss, label or config object enters it. Wrong arguments and wrong images raise ``UserError``.
"""

from src.models.bisenetv2 import BiSeNetV2

__all__ = ["BiSeNetV2"]
