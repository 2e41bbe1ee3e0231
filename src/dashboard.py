"""Pages about finished or running runs: ``python -m src.dashboard run=FOLDER``, ``compare=[FOLDER,FOLDER]``."""

from .cli.command import command

if __name__ == "__main__":
    command("dashboard")
