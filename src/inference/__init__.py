"""How a net is applied to an image.

Contract: ``(net, image) -> scores``, image (B,3,H,W) normalised float, scores (B,K,H,W) at the image's size **whose
softmax is the prediction**. Averaging probabilities therefore returns their logarithm.
"""

from .crf import DenseCRF
from .engine import Inference, top_class
from .sliding_window import Sliding

__all__ = ["DenseCRF", "Inference", "Sliding", "top_class"]
