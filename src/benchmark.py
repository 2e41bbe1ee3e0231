"""Speed and memory of a net: ``python -m src.benchmark model=NAME|ckpt=PATH [size=[512,1024]]``."""

from .cli.command import command

if __name__ == "__main__":
    command("benchmark")
