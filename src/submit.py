"""Files for the Cityscapes test server: ``python -m src.submit ckpt=PATH data=cityscapes split=test out=FILE.zip``.

The server takes one single-channel 8-bit PNG of label ids (not train ids) per image, at the image's full size, whose
name begins with ``<city>_<sequence>_<frame>``, all of them in one archive.
"""

from .cli.checkpoint_defaults import with_data_of_checkpoint
from .cli.command import command


def prepare(overrides: list[str]) -> tuple[str, list[str]]:
    """As ``src.predict``, and the data of ``ckpt=...`` is the default too."""
    return "submit", with_data_of_checkpoint(overrides)


if __name__ == "__main__":
    command("submit", prepare=prepare)
