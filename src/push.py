"""Push a trained model to a hub: ``python -m src.push ckpt=RUN repo=user/name [private=true]``."""

from .cli.checkpoint_defaults import downloaded
from .cli.command import command


def prepare(overrides: list[str]) -> tuple[str, list[str]]:
    """An address in ``ckpt=`` is downloaded first, so that a model can be copied to another repository."""
    return "push", downloaded(overrides)


if __name__ == "__main__":
    command("push", prepare=prepare)
