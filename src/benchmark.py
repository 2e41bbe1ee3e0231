"""Speed and memory of a net: ``python -m src.benchmark model=NAME|ckpt=PATH [size=[512,1024]]``."""

from .cli.checkpoint_defaults import file_of_run
from .cli.command import command


def prepare(overrides: list[str]) -> tuple[str, list[str]]:
    """Takes a run folder for its checkpoint."""
    return "benchmark", file_of_run(overrides)


if __name__ == "__main__":
    command("benchmark", prepare=prepare)
