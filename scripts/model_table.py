"""Writes docs/models.md, what every net of conf/model costs beside published figures: ``scripts/model_table.py``.

Nothing is computed on real tensors: parameters and multiply-adds (convolutions and matrix products, one per pair of
factors) are counted on the meta device, in evaluation. Published figures are in ``scripts/published_costs.yaml``.
"""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import nn
from tqdm import tqdm

from src.build.from_config import build_net
from src.models.net import Net
from src.profiling.model_cost import multiply_adds, parameters, parameters_without_aux

ROOT = Path(__file__).resolve().parent.parent
HEADER = """# Models

Written by `python scripts/model_table.py`; `tests/test_model_table.py` keeps it true. One row per file of `conf/model`
and per published figure: K classes, image size, parameters with and without auxiliary heads, multiply-adds of one
image in evaluation (convolutions and matrix products), output stride of the logits. *Published* is the figure of the
paper or of the reference implementation; *exact* rows agree to the last digit given. Other rows say why they differ.
Receptive fields, in pixels, are those of a chain of layers, named by its place in the net.

"""
COLUMNS = ("model", "K", "image", "parameters", "without aux", "G multiply-adds", "stride", "published", "agreement")


@dataclass(frozen=True)
class Cost:
    """What a net costs: parameters in all and without auxiliary heads, multiply-adds of one image, output stride."""

    params: int
    params_without_aux: int
    macs: int
    stride: int


def build(model: str, num_classes: int, overrides: Sequence[str] = ()) -> nn.Module:
    """The net of ``model=<model>`` in evaluation mode, on the meta device."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", overrides=[f"model={model}", f"data.num_classes={num_classes}", *overrides])
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return build_net(cfg).eval()


def measure(
    model: str, num_classes: int, size: tuple[int, int], overrides: Sequence[str] = (), *, with_aux: bool = False
) -> Cost:
    """The cost of ``model=<model>`` with these overrides on an image of ``size`` (height, width).

    With ``with_aux`` the multiply-adds are those of a training step's forward pass, auxiliary heads included.
    """
    net = build(model, num_classes, overrides)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for part in net.modules() if with_aux else ():
            if isinstance(part, Net):
                part.training = True
        macs, outputs = multiply_adds(net, size)
    return Cost(
        params=parameters(net),
        params_without_aux=parameters_without_aux(net),
        macs=macs,
        stride=round(size[0] / outputs["logits"].shape[-2]),
    )


def receptive_field(model: str, chain: str, skip: str) -> int:
    """Pixels of the image along one side that a value at the end of a chain of layers depends on.

    Args:
        model: name of the YAML.
        chain: the part of the net whose convolutions and poolings follow one another.
        skip: regular expression for names of layers beside the chain.
    """
    net, field, jump = build(model, 19), 1, 1

    def widen(layer: nn.Module, *_: object) -> None:
        nonlocal field, jump
        kernel, stride, dilation = (
            value if isinstance(value, int) else value[0]
            for value in (layer.kernel_size, layer.stride, getattr(layer, "dilation", 1))
        )
        field += (kernel - 1) * dilation * jump
        jump *= stride

    for name, layer in net.get_submodule(chain).named_modules():
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) and not re.search(skip, name):
            layer.register_forward_hook(widen)
    net.decode(torch.empty(1, 3, 512, 1024, device="meta"))
    return field


def rows() -> Iterator[dict[str, object]]:
    """One row per model and published figure, in the models' order."""
    published = OmegaConf.to_container(OmegaConf.load(ROOT / "scripts" / "published_costs.yaml"))
    models = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))
    unknown = published.keys() - set(models)
    if unknown:
        raise SystemExit(f"error: published_costs.yaml names {', '.join(sorted(unknown))}, which conf/model lacks")
    for model in tqdm(models, unit="model", disable=None):
        for entry in published.get(model) or [{}]:
            yield {"model": model, **entry, **_compare(model, entry)}


def _compare(model: str, entry: dict[str, object]) -> dict[str, object]:
    if "chain" in entry:
        field = receptive_field(model, entry["chain"], entry.get("skip", "^$"))
        return {"field": field, "exact": field == entry["receptive_field"]}
    classes, size = entry.get("classes", 19), tuple(entry.get("size", (512, 1024)))
    cost = measure(model, classes, size, tuple(entry.get("overrides", ())), with_aux=entry.get("with_aux", False))
    digits = entry.get("digits", 2)
    ours = {
        "params": cost.params,
        "params_without_aux": cost.params_without_aux,
        "gmacs": round(cost.macs / 1e9, digits),
        "gflops": round(2 * cost.macs / 1e9, digits),
    }
    agreement = [abs(ours[name] - entry[name]) < 1e-9 for name in ours if name in entry]
    return {"classes": classes, "size": size, "cost": cost, "exact": bool(agreement) and all(agreement)}


def table(lines: list[dict[str, object]]) -> str:
    """The document."""
    body = [HEADER + "| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for row in lines:
        if "field" in row:
            text = f"receptive field of `{row['chain']}`: {row['field']} pixels"
            cells = [f"`{row['model']}`", text, *[""] * 5, f"{row['receptive_field']} ({row['source']})"]
            body.append("| " + " | ".join([*cells, "exact" if row["exact"] else row.get("why", "")]) + " |")
            continue
        cost = row["cost"]
        given = [f"{row[name]:,}" for name in ("params", "params_without_aux") if name in row]
        given += [f"{row['gmacs']} G"] if "gmacs" in row else []
        given += [f"{row['gflops'] / 2:.3f} G"] if "gflops" in row else []
        overrides = f" `{' '.join(row['overrides'])}`" if row.get("overrides") else ""
        overrides += " with auxiliary heads" if row.get("with_aux") else ""
        agreement = "exact" if row["exact"] else row.get("why", "")
        source = f" ({row['source']})" if "source" in row else ""
        cells = [f"`{row['model']}`{overrides}", row["classes"], "x".join(map(str, row["size"])), f"{cost.params:,}"]
        cells += [f"{cost.params_without_aux:,}", f"{cost.macs / 1e9:.2f}", cost.stride]
        body.append("| " + " | ".join(map(str, [*cells, ", ".join(given) + source, agreement])) + " |")
    return "\n".join(body) + "\n"


def main() -> None:
    """Writes the table, whole or not at all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "models.md", help="[docs/models.md]")
    out = parser.parse_args().out
    text = table(list(rows()))
    partial = out.with_suffix(".tmp")
    partial.write_text(text)
    partial.replace(out)
    print(out)


if __name__ == "__main__":
    main()
