"""The public nets, one paper per file.

Every net keeps one contract. ``forward(image)`` takes a normalised float image (B,C,H,W) and returns a dict of tensors:

* ``logits`` (B,K,H,W), before softmax, at the image's size: always;
* ``aux_<name>`` (B,K,H,W): logits of the auxiliary heads, in training mode only.

``decode(image)`` returns the same maps before the last resize, each at its head's resolution, and ``features``, what
the last classifier reads; ``forward`` is ``decode`` plus a bilinear resize (``src.models.net``). A net knows tensors
only: no loss, label or config object enters it. Wrong arguments and wrong images raise ``UserError``.
"""

from .ann import ANN
from .bisenetv1 import BiSeNetV1
from .bisenetv2 import BiSeNetV2
from .deeplab import DeepLabV1, DeepLabV2
from .deeplabv3 import DeepLabV3
from .deeplabv3plus import DeepLabV3Plus
from .dilated_fcn import DilatedFCN
from .fcn import FCN
from .multi_scale_attention import ExplicitAttention, HierarchicalAttention
from .multi_scale_pooling import PooledScales
from .nonlocal_net import NonLocalNet
from .ocr import OCRNet
from .pspnet import PSPNet
from .smp import SMP

__all__ = [
    "ANN",
    "FCN",
    "SMP",
    "BiSeNetV1",
    "BiSeNetV2",
    "DeepLabV1",
    "DeepLabV2",
    "DeepLabV3",
    "DeepLabV3Plus",
    "DilatedFCN",
    "ExplicitAttention",
    "HierarchicalAttention",
    "NonLocalNet",
    "OCRNet",
    "PSPNet",
    "PooledScales",
]
