"""The public nets, one paper per file.

Every net keeps one contract. ``forward(image)`` takes a normalised float image (B,C,H,W) and returns a dict of tensors:

* ``logits`` (B,K,H,W), before softmax, at the image's size: always;
* ``aux_<name>`` (B,K,H,W): logits of the auxiliary heads, in training mode only.

``decode(image)`` returns the same maps before the last resize, each at its head's resolution, and ``features``, what
the last classifier reads; ``forward`` is ``decode`` plus a bilinear resize (``src.models.net``). A net knows tensors
only: no loss, label or config object enters it. Wrong arguments and wrong images raise ``UserError``.
"""

from src.models.ann import ANN
from src.models.bisenetv1 import BiSeNetV1
from src.models.bisenetv2 import BiSeNetV2
from src.models.deeplab import DeepLabV1, DeepLabV2
from src.models.deeplabv3 import DeepLabV3
from src.models.deeplabv3plus import DeepLabV3Plus
from src.models.dilated_fcn import DilatedFCN
from src.models.fcn import FCN
from src.models.multi_scale_attention import ExplicitAttention, HierarchicalAttention
from src.models.multi_scale_pooling import PooledScales
from src.models.nonlocal_net import NonLocalNet
from src.models.ocr import OCRNet
from src.models.pspnet import PSPNet
from src.models.smp import SMP

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
