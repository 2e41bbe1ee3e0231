"""NVIDIA/semantic-segmentation: rules by net class. The tensors are under ``state_dict`` in the file."""

from __future__ import annotations

from .hrnet_semantic import OCR

__all__ = ["RULES"]

NET = (
    (r"^module\.", ""),
    (r"^backbone\.", "backbone.trunk."),
    (r"^ocr\.", ""),
    *OCR,
)

RULES = {
    # loads into conf/model/hrnet_ocr.yaml
    "OCRNet": NET,
    # loads into conf/model/hrnet_ocr_hierarchical.yaml
    "HierarchicalAttention": (
        *NET,
        (r"^scale_attn\.conv([01])\.", r"attention.convs.\1.conv."),
        (r"^scale_attn\.bn([01])\.", r"attention.convs.\1.norm."),
        (r"^scale_attn\.conv2\.", "attention.last."),
        (r"^(?!attention\.)", "net."),
    ),
}
