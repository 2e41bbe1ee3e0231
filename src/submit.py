"""Files for the Cityscapes test server: ``python -m src.submit ckpt=PATH data=cityscapes split=test out=FILE.zip``.

The server takes one single-channel 8-bit PNG of label ids (not train ids) per image, at the image's full size, whose
name begins with ``<city>_<sequence>_<frame>``, all of them in one archive.
"""

from .cli.command import command

if __name__ == "__main__":
    command("submit")
