"""Pages and their parts, made of the templates in ``templates/``."""

from __future__ import annotations

import base64
import datetime
import functools
import hashlib
import math
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

__all__ = ["number", "render_page", "render_part"]

_FOLDER = Path(__file__).resolve().parent / "templates"


def render_page(template: str, **values: Any) -> bytes:
    """The page that a template makes of ``values``; it may load nothing, and run no script but its own."""
    script = (_FOLDER / "table.js").read_text(encoding="utf-8")
    page = render_part(
        template,
        style=Markup((_FOLDER / "style.css").read_text(encoding="utf-8")),
        script=Markup(script),
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        written=datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        **values,
    )
    return page.encode(errors="replace")


def render_part(template: str, **values: Any) -> Markup:
    """The part of a page that a template makes of ``values``, which are escaped unless they are markup."""
    return Markup(_environment().get_template(template).render(**values))


@functools.cache
def _environment() -> Environment:
    environment = Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined)
    environment.trim_blocks = environment.lstrip_blocks = True
    environment.filters["number"] = number
    return environment


def number(value: float | None, digits: int = 2) -> str:
    """A number with these decimals, a dash for none."""
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"
