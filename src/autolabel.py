"""Label images with a trained net, to train another: ``python -m src.autolabel ckpt=PATH source=FOLDER out=FOLDER``.

Labels are written without a threshold, and beside each the probability of its pixels (arXiv 2005.10821, section 4.3);
``data.min_confidence`` applies the threshold when they are loaded.
"""

from .cli.command import command

if __name__ == "__main__":
    command("autolabel")
