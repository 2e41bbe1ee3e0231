"""Score a checkpoint on any split, or compare two scored runs.

``python -m src.evaluate ckpt=PATH [split=val]``, ``python -m src.evaluate compare=[RUN,RUN]``.
"""

from .cli.command import command

if __name__ == "__main__":
    command("evaluate")
