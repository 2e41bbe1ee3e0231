"""Score a checkpoint on any split, or compare two scored runs.

``python -m src.evaluate ckpt=PATH [split=val]``, ``python -m src.evaluate compare=[RUN,RUN]``.
"""

from .cli.checkpoint_defaults import with_data_of_checkpoint
from .cli.command import command


def prepare(overrides: list[str]) -> tuple[str, list[str]]:
    """As ``src.predict``, and the data of ``ckpt=...`` is the default too."""
    return "evaluate", with_data_of_checkpoint(overrides, data_are_resized=True)


if __name__ == "__main__":
    command("evaluate", prepare=prepare)
