"""Run a sweep and set it beside a paper's table: ``python -m src.sweep sweep=NAME``; ``--help`` lists what there is."""

from .cli.command import command

if __name__ == "__main__":
    command("sweep")
