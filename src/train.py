"""Train a net: ``python -m src.train [group=option] [key=value]``; ``--help`` lists what can be chosen."""

from .cli.command import command

if __name__ == "__main__":
    command("train")
