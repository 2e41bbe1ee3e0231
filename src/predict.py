"""Segment images, videos and maps: ``python -m src.predict ckpt=PATH source=IMAGE|FOLDER|GLOB|LIST|VIDEO|CAMERA``."""

from .cli.checkpoint_defaults import of_checkpoint
from .cli.command import command


def prepare(overrides: list[str]) -> tuple[str, list[str]]:
    """Makes the inference and the scales around the net of ``ckpt=...`` the defaults that overrides apply to."""
    return "predict", of_checkpoint(overrides)[1]


if __name__ == "__main__":
    command("predict", prepare=prepare)
