"""Check a data set and this computer before training: ``python -m src.doctor data=folder data.root=PATH``."""

from .cli.command import command

if __name__ == "__main__":
    command("doctor")
