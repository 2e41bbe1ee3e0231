"""Progress bars: in a terminal, and in a notebook that can draw them."""

from __future__ import annotations

import warnings
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of a notebook without ipywidgets, which gets no bars
    from tqdm.auto import tqdm as _tqdm

__all__ = ["IN_NOTEBOOK", "tqdm"]

IN_NOTEBOOK = any(kind.__module__ == "tqdm.notebook" for kind in _tqdm.__mro__)
"""Whether this process is the kernel of a notebook that draws bars."""


class tqdm(_tqdm):
    """A bar whose ``disable=None`` hides it unless somebody looks on: at a terminal, or at a notebook."""

    def __init__(self, *arguments: Any, disable: bool | None = False, **options: Any) -> None:
        shown = False if disable is None and IN_NOTEBOOK else disable
        super().__init__(*arguments, disable=shown, **options)
