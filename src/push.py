"""Push a trained model to a hub: ``python -m src.push ckpt=RUN repo=user/name [private=true]``."""

from .cli.command import command

if __name__ == "__main__":
    command("push")
