"""Export a checkpoint: ``python -m src.export ckpt=PATH [out=FILE] [format=onnx|pt2|bundle]``."""

from .cli.command import command

if __name__ == "__main__":
    command("export")
