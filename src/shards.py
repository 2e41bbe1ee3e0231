"""Write a data set as shards for object storage: ``python -m src.shards data=NAME data.root=PATH out=FOLDER``.

They are read back with ``data=shards data.root=FOLDER``.
"""

from .cli.command import command

if __name__ == "__main__":
    command("shards")
