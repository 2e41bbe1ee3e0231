"""MendelXu/ANN: rules by net class. The tensors are under ``state_dict`` in the file."""

from __future__ import annotations

__all__ = ["RULES"]

RULES = {
    # loads into conf/model/ann.yaml
    "ANN": (
        (r"^module\.", ""),
        # the stem's three convolutions are a sequence in timm
        (r"^backbone\.prefix\.bn3\.", "backbone.trunk.bn1."),
        *((rf"^backbone\.prefix\.conv{i + 1}\.", f"backbone.trunk.conv1.{3 * i}.") for i in range(3)),
        *((rf"^backbone\.prefix\.bn{i + 1}\.", f"backbone.trunk.conv1.{3 * i + 1}.") for i in range(2)),
        (r"^backbone\.layer", "backbone.trunk.layer"),
        # the one projection of query and key is stored twice
        (r"^context\.2\.stages\.0\.f_key\..*", ""),
        (r"^context\.2\.", "refine."),
        (r"^(refine|fusion)\.stages\.0\.W\.", r"\1.context."),
        (r"^(refine|fusion)\.stages\.0\.f_value\.", r"\1.value."),
        (r"^(refine|fusion)\.stages\.0\.f_(query|key)\.0\.", r"\1.\2.conv."),
        (r"^(refine|fusion)\.stages\.0\.f_(query|key)\.1\.0\.", r"\1.\2.norm."),
        (r"^(refine|fusion)\.conv_bn_dropout\.0\.", r"\1.merge.conv."),
        (r"^(refine|fusion)\.conv_bn_dropout\.1(\.0)?\.(?=[a-z])", r"\1.merge.norm."),
        (r"^context\.0\.", "reduce.conv."),
        (r"^context\.1\.0\.", "reduce.norm."),
        (r"^cls\.", "head.classifier."),
        (r"^dsn\.0\.", "aux_head.convs.0.conv."),
        (r"^dsn\.1\.0\.", "aux_head.convs.0.norm."),
        (r"^dsn\.3\.", "aux_head.classifier."),
    ),
}
