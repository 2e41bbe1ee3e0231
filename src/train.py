"""Train a net: ``python -m src.train [group=option] [key=value]``; ``--help`` lists what can be chosen."""

from src.cli.command import command
from src.cli.resume import prepare

if __name__ == "__main__":
    command("train", prepare=prepare)
