"""Published weights as a checkpoint: ``python -m src.convert source=PROJECT ckpt=FILE model=NAME out=FILE``.

The result holds what ``src.evaluate``, ``src.predict`` and ``init_from`` need: net, normalisation, classes, inference.
"""

from .cli.command import command

if __name__ == "__main__":
    command("convert")
