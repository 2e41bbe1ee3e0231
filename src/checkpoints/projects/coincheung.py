"""CoinCheung/BiSeNet: rules by net class. The file is the state dict itself, booster heads included."""

from __future__ import annotations

__all__ = ["RULES"]

RULES = {
    # loads into conf/model/bisenetv1.yaml
    "BiSeNetV1": (
        (r"^cp\.resnet\.", "backbone.trunk."),
        (r"^cp\.arm(16|32)\.", r"context.refine\1."),
        (r"^cp\.conv_head(16|32)\.", r"context.smooth\1."),
        (r"^cp\.conv_avg\.", "context.pooled."),
        (r"\.conv_atten\.", ".gate.conv."),
        (r"\.bn_atten\.", ".gate.norm."),
        *((rf"^sp\.{name}\.", f"spatial.{i}.") for i, name in enumerate(("conv1", "conv2", "conv3", "conv_out"))),
        (r"^ffm\.convblk\.", "fuse.project."),
        (r"^ffm\.conv\.", "fuse.gate.conv."),
        (r"^ffm\.bn\.", "fuse.gate.norm."),
        (r"^conv_out\.", "head."),
        (r"^conv_out(16|32)\.", r"aux_heads.\1."),
        (r"^(head|aux_heads\.\d+)\.conv\.", r"\1.convs.0."),
        (r"\.conv_out\.", ".classifier."),
        (r"\.bn\.", ".norm."),
    ),
    # loads into conf/model/bisenetv2_coincheung.yaml
    "BiSeNetV2": (
        (r"^detail\.S", "detail.s"),
        (r"^segment\.S1S2\.conv\.", "semantic.stem.first."),
        (r"^segment\.S1S2\.left\.", "semantic.stem.left."),
        (r"^segment\.S1S2\.fuse\.", "semantic.stem.merge."),
        (r"^segment\.S5_5\.conv_gap\.", "semantic.context.embed."),
        (r"^segment\.S5_5\.conv_last\.", "semantic.context.tail."),
        (r"^segment\.S5_5\.", "semantic.context."),
        # Gather-and-Expansion layers: sequences of convolution, norm, convolution, norm become named blocks
        (r"^segment\.S", "semantic.s"),
        (r"^(semantic\.s.*)\.conv1\.", r"\1.gather."),
        (r"^(semantic\.s.*)\.dwconv1?\.(\d)\.", r"\1.depthwise.0.\2."),
        (r"^(semantic\.s.*)\.dwconv2\.(\d)\.", r"\1.depthwise.1.\2."),
        (r"^(semantic\.s.*)\.conv2\.(\d)\.", r"\1.project.\2."),
        (r"^(semantic\.s.*)\.shortcut\.2\.", r"\1.shortcut.1.0."),
        (r"^(semantic\.s.*)\.shortcut\.3\.", r"\1.shortcut.1.1."),
        (r"^(semantic\.s.*)\.shortcut\.([01])\.(\D)", r"\1.shortcut.0.\2.\3"),
        (r"^(semantic\.s.*\.(?:depthwise\.\d|project|shortcut\.\d))\.0\.", r"\1.conv."),
        (r"^(semantic\.s.*\.(?:depthwise\.\d|project|shortcut\.\d))\.1\.", r"\1.norm."),
        # aggregation
        (r"^bga\.left1\.2\.", "aggregate.detail_keep.1."),
        (r"^bga\.right2\.2\.", "aggregate.semantic_keep.1."),
        (r"^bga\.left1\.", "aggregate.detail_keep.0."),
        (r"^bga\.left2\.", "aggregate.detail_down.0."),
        (r"^bga\.right1\.", "aggregate.semantic_up."),
        (r"^bga\.right2\.", "aggregate.semantic_keep.0."),
        (r"^bga\.conv\.", "aggregate.fuse."),
        (r"^(aggregate\.(?:detail_\w+\.0|semantic_keep\.0|semantic_up|fuse))\.0\.", r"\1.conv."),
        (r"^(aggregate\.(?:detail_\w+\.0|semantic_keep\.0|semantic_up|fuse))\.1\.", r"\1.norm."),
        # heads
        (r"^head\.conv\.", "head.convs.0."),
        (r"^head\.conv_out\.1\.", "head.classifier."),
        (r"^aux(\d(?:_4)?)\.conv\.", r"aux_heads.s\1.0."),
        (r"^aux(\d(?:_4)?)\.conv_out\.0\.1\.", r"aux_heads.s\1.3.convs.0."),
        (r"^aux(\d(?:_4)?)\.conv_out\.1\.", r"aux_heads.s\1.3.classifier."),
        (r"\.bn\.", ".norm."),
    ),
}
