"""HRNet/HRNet-Semantic-Segmentation: rules by net class. The tensors are the file, or under ``state_dict`` in it."""

from __future__ import annotations

__all__ = ["RULES"]

# trunk names are timm's; a table of class weights of the loss may stand beside the net
TRUNK = ((r"^loss\..*", ""), (r"^model\.", "backbone.trunk."))
# inside the OCR block; NVIDIA's has the same names, with one more level at some norms
OCR = (
    (r"^conv3x3_ocr\.0\.", "pixels.conv."),
    (r"^conv3x3_ocr\.1\.(0\.)?", "pixels.norm."),
    (r"^ocr_distri_head\.object_context_block\.f_pixel\.", "context.query."),
    (r"^ocr_distri_head\.object_context_block\.f_object\.", "context.key."),
    (r"^ocr_distri_head\.object_context_block\.f_down\.", "context.value."),
    (r"^ocr_distri_head\.object_context_block\.f_up\.", "context.context."),
    (r"^ocr_distri_head\.conv_bn_dropout\.", "context.merge."),
    # sequences of convolution and norm become blocks; where there are two, they are at 0, 1 and 2, 3
    (r"^context\.(value|context|merge)\.0\.", r"context.\1.conv."),
    (r"^context\.(value|context|merge)\.1\.0\.", r"context.\1.norm."),
    (r"^context\.(query|key)\.([02])\.", r"context.\1.\2.conv."),
    (r"^context\.(query|key)\.([13])\.0\.", r"context.\1.\2.norm."),
    (r"^context\.(query|key)\.[01]\.(conv|norm)\.", r"context.\1.0.\2."),
    (r"^context\.(query|key)\.[23]\.(conv|norm)\.", r"context.\1.1.\2."),
    (r"^cls_head\.", "head.classifier."),
    (r"^aux_head\.0\.", "region_head.convs.0.conv."),
    (r"^aux_head\.1\.(0\.)?", "region_head.convs.0.norm."),
    (r"^aux_head\.[23]\.", "region_head.classifier."),
)

RULES = {
    # loads into conf/model/fcn_hrnet_w48.yaml
    "DilatedFCN": (
        (r"^model\.last_layer\.0\.", "head.convs.0.conv."),
        (r"^model\.last_layer\.1\.", "head.convs.0.norm."),
        (r"^model\.last_layer\.3\.", "head.classifier."),
        *TRUNK,
    ),
    # loads into conf/model/hrnet_ocr_hrnet.yaml
    "OCRNet": ((r"^model\.(?=conv3x3_ocr\.|ocr_distri_head\.|cls_head\.|aux_head\.)", ""), *OCR, *TRUNK),
}
