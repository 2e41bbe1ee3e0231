"""Published weights as a checkpoint: ``python -m src.convert source=PROJECT ckpt=FILE model=NAME out=FILE``.

The result holds what ``src.evaluate``, ``src.predict`` and ``init_from`` need: net, normalisation, classes, inference.
"""

from .cli.checkpoint_defaults import downloaded, offer
from .cli.command import command
from .cli.overrides import sets_any

STATISTICS, PROTOCOL = ("data.mean", "data.std", "data.channel_order"), ("inference", "model.scales", "model/scales")


def prepare(overrides: list[str]) -> tuple[str, list[str]]:
    """Statistics and protocol that the command line gives replace those of the project."""
    offer("data", "auto", {"name": "auto", "num_classes": None})
    offer("model", "unset", {"name": "unset"})
    parts = {"statistics": STATISTICS, "protocol": PROTOCOL}
    return "convert", [
        *(f"{part}=given" for part, names in parts.items() if sets_any(names, overrides)),
        *downloaded(overrides),
    ]


if __name__ == "__main__":
    command("convert", prepare=prepare)
