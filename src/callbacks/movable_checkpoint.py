"""MovableCheckpoint: a run remembers its best weights and their score wherever its folder lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import ModelCheckpoint

__all__ = ["MovableCheckpoint"]


class MovableCheckpoint(ModelCheckpoint):
    """Lightning's, for a run that goes on in a folder that was moved or copied.

    There Lightning forgets the best score, puts the next weights in place of better ones, and looks for them in the old
    folder. Here only a score whose file is gone is forgotten.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        def here(path: str) -> str:
            return str(Path(self.dirpath) / Path(path).name) if path else ""

        if Path(best := here(state_dict["best_model_path"])).is_file():
            moved = {name: here(state_dict[name]) for name in ("kth_best_model_path", "last_model_path")}
            kept = {here(path): score for path, score in state_dict["best_k_models"].items()}
            moved |= {"best_model_path": best, "best_k_models": kept, "dirpath": self.dirpath}
            super().load_state_dict(state_dict | moved)
