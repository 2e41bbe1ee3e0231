"""open-mmlab/mmsegmentation 1.x: rules by net class. The tensors are under ``state_dict`` in the file."""

from __future__ import annotations

__all__ = ["RULES"]

# ResNetV1c, whose stem is a sequence there, and HRNet: otherwise timm's names
TRUNK = (
    (r"^backbone\.stem\.7\.", "backbone.trunk.bn1."),
    (r"^backbone\.stem\.", "backbone.trunk.conv1."),
    (r"^backbone\.(?!trunk\.)", "backbone.trunk."),
)
# fully convolutional auxiliary head, and the names inside every head; comes after rules that place decode_head
HEADS = (
    (r"^auxiliary_head\.", "aux_head."),
    (r"\.conv_seg\.", ".classifier."),
    (r"\.bn\.", ".norm."),
)
_DEEPLAB = (
    *TRUNK,
    (r"^decode_head\.image_pool\.1\.", "aspp.pooling.conv."),
    (r"^decode_head\.aspp_modules\.0\.", "aspp.point."),
    *((rf"^decode_head\.aspp_modules\.{i + 1}\.", f"aspp.atrous.{i}.") for i in range(3)),
    (r"^decode_head\.bottleneck\.", "aspp.project."),
    (r"^decode_head\.c1_bottleneck\.", "decoder.0.project."),
    (r"^decode_head\.sep_bottleneck\.", "decoder.0.refine."),
    (r"\.(depthwise|pointwise)_conv\.", r".\1."),
    (r"^decode_head\.", "head."),
    *HEADS,
)

RULES = {
    # loads into conf/model/bisenetv2_mmseg.yaml
    "BiSeNetV2": (
        *((rf"^backbone\.detail\.detail_branch\.{i}\.", f"detail.s{i + 1}.") for i in range(3)),
        (r"^backbone\.semantic\.stage1\.conv_first\.", "semantic.stem.first."),
        (r"^backbone\.semantic\.stage1\.convs\.", "semantic.stem.left."),
        (r"^backbone\.semantic\.stage1\.fuse_last\.", "semantic.stem.merge."),
        (r"^backbone\.semantic\.stage4_CEBlock\.gap\.1\.", "semantic.context.norm."),
        (r"^backbone\.semantic\.stage4_CEBlock\.conv_gap\.", "semantic.context.embed."),
        (r"^backbone\.semantic\.stage4_CEBlock\.conv_last\.", "semantic.context.tail."),
        # Gather-and-Expansion layers
        (r"^backbone\.semantic\.stage2\.", "semantic.s3."),
        (r"^backbone\.semantic\.stage3\.", "semantic.s4."),
        (r"^backbone\.semantic\.stage4\.", "semantic.s5_4."),
        (r"^(semantic\.s\d.*)\.conv1\.", r"\1.gather."),
        (r"^(semantic\.s\d.*)\.dwconv\.", r"\1.depthwise."),
        (r"^(semantic\.s\d.*)\.conv2\.0\.", r"\1.project."),
        (r"^(semantic\.s\d.*)\.shortcut\.0\.depthwise_conv\.", r"\1.shortcut.0."),
        (r"^(semantic\.s\d.*)\.shortcut\.0\.pointwise_conv\.", r"\1.shortcut.1."),
        # aggregation
        (r"^backbone\.bga\.(detail|semantic)_dwconv\.0\.depthwise_conv\.", r"aggregate.\1_keep.0."),
        (r"^backbone\.bga\.(detail|semantic)_dwconv\.0\.pointwise_conv\.conv\.", r"aggregate.\1_keep.1."),
        (r"^backbone\.bga\.detail_down\.", "aggregate.detail_down."),
        (r"^backbone\.bga\.semantic_conv\.0\.", "aggregate.semantic_up."),
        (r"^backbone\.bga\.conv\.", "aggregate.fuse."),
        # heads
        (r"^decode_head\.", "head."),
        *((rf"^auxiliary_head\.{i}\.", f"aux_heads.{stage}.") for i, stage in enumerate(("s2", "s3", "s4", "s5_4"))),
        (r"\.conv_seg\.", ".classifier."),
        (r"\.bn\.", ".norm."),
    ),
    # load into conf/model/deeplab_v3_mmseg.yaml and deeplab_v3plus_mmseg.yaml
    "DeepLabV3": _DEEPLAB,
    "DeepLabV3Plus": _DEEPLAB,
    # loads into conf/model/fcn_mmseg.yaml and fcn_hrnet_w48_mmseg.yaml
    "DilatedFCN": (
        *TRUNK,
        (r"^decode_head\.conv_cat\.", "merge."),
        (r"^decode_head\.", "head."),
        *HEADS,
    ),
    # loads into conf/model/pspnet_mmseg.yaml
    "PSPNet": (
        *TRUNK,
        (r"^decode_head\.psp_modules\.(\d)\.1\.", r"pyramid.levels.\1."),
        (r"^decode_head\.bottleneck\.", "head.convs.0."),
        (r"^decode_head\.", "head."),
        *HEADS,
    ),
    # loads into conf/model/nonlocal_mmseg.yaml
    "NonLocalNet": (
        *TRUNK,
        (r"^decode_head\.convs\.0\.", "before."),
        (r"^decode_head\.convs\.1\.", "after."),
        (r"^decode_head\.nl_block\.conv_out\.", "block.out."),
        (r"^decode_head\.nl_block\.(theta|phi|g)\.conv\.", r"block.\1."),
        (r"^decode_head\.conv_cat\.", "head.convs.0."),
        (r"^decode_head\.", "head."),
        *HEADS,
    ),
    # loads into conf/model/ann_mmseg.yaml
    "ANN": (
        *TRUNK,
        (r"^decode_head\.context\.stages\.0\.key_project\..*", ""),  # that of the query, stored twice
        (r"^decode_head\.context\.", "refine."),
        (r"^decode_head\.fusion\.", "fusion."),
        (r"^(refine|fusion)\.stages\.0\.(query|key|value)_project\.", r"\1.\2."),
        (r"^(refine|fusion)\.stages\.0\.out_project\.", r"\1.context."),
        (r"^(refine|fusion)\.bottleneck\.", r"\1.merge."),
        (r"^decode_head\.bottleneck\.", "reduce."),
        (r"^decode_head\.", "head."),
        *HEADS,
    ),
    # loads into conf/model/hrnet_ocr_mmseg.yaml and ocrnet_resnet101.yaml
    "OCRNet": (
        *TRUNK,
        (r"^decode_head\.0\.", "region_head."),
        (r"^decode_head\.1\.conv_seg\.", "head.classifier."),
        (r"^decode_head\.1\.bottleneck\.", "pixels."),
        (r"^decode_head\.1\.object_context_block\.(query|key|value)_project\.", r"context.\1."),
        (r"^decode_head\.1\.object_context_block\.out_project\.", "context.context."),
        (r"^decode_head\.1\.object_context_block\.bottleneck\.", "context.merge."),
        *HEADS,
    ),
}
