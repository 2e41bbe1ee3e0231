"""Segment images, videos and maps: ``python -m src.predict ckpt=PATH source=IMAGE|FOLDER|GLOB|LIST|VIDEO|CAMERA``."""

from .cli.command import command

if __name__ == "__main__":
    command("predict")
