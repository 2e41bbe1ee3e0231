"""open-mmlab/mmsegmentation 1.x: rules by net class. The tensors are under ``state_dict`` in the file."""

from __future__ import annotations

__all__ = ["RULES"]

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
}
