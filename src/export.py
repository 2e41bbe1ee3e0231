"""A checkpoint made ready to leave: ``python -m src.export ckpt=PATH [out=FILE] [format=onnx|pt2|bundle]``."""

from .cli.checkpoint_defaults import of_checkpoint
from .cli.command import command


def prepare(overrides: list[str]) -> tuple[str, list[str]]:
    """As ``src.predict``."""
    return "export", of_checkpoint(overrides)[1]


if __name__ == "__main__":
    command("export", prepare=prepare)
