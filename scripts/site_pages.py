"""What MkDocs adds to ``docs`` when it builds the site (``hooks`` of ``mkdocs.yml``).

The start page is README.md; the changelog and the page for contributors are the files beside it; the error index is
read from the code. A link that leaves ``docs`` is turned to where its page stands on the site. After the build every
public name of the packages in the reference must be in it.
"""

from __future__ import annotations

import ast
import logging
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))

import error_index

ROOT = Path(__file__).resolve().parent.parent
MOVED = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
log = logging.getLogger("mkdocs.hooks.site_pages")  # whose warnings fail a strict build


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that do not lie in ``docs``."""
    for source, name in MOVED.items():
        text = re.sub(r"(\[|\]\()docs/", r"\1", (ROOT / source).read_text())
        files.append(File.generated(config, name, content=text))
    files.append(File.generated(config, "errors.md", content=error_index.page()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links to files beside ``docs`` to their pages; code is no page, so its name stays as text."""
    for source, name in MOVED.items():
        up = "../" * page.file.src_uri.count("/")
        markdown = re.sub(rf"\]\((?:\.\./)*{source}(?=[)#])", f"]({up}{name}", markdown)
    return re.sub(r"\[([^\]]*)\]\((?:\.\./)*(?:src|conf|scripts|tests|notebooks)(?:/[^)]*)?\)", r"\1", markdown)


def on_post_build(config: MkDocsConfig) -> None:
    """Warns of public names that the reference lacks."""
    for name in undocumented(ROOT / "docs" / "reference", Path(config.site_dir) / "reference"):
        log.warning("%s: a public name without a docstring; the reference leaves it out", name)


def undocumented(pages: Path, site: Path) -> list[str]:
    """What ``__all__`` of the described modules lists and the built pages lack: names without a docstring.

    A name may stand there as that of the module which it comes from.
    """
    modules = described(pages)
    found = {name for path in site.glob("*.html") for name in re.findall(r'id="([\w.]+)"', path.read_text())}
    names = [name for module in modules for name in public(module)]
    return [name for name in names if found.isdisjoint(f"{module}.{name.rpartition('.')[2]}" for module in modules)]


def described(pages: Path) -> list[str]:
    """The modules that the reference describes, by their dotted names."""
    texts = [path.read_text() for path in sorted(pages.glob("*.md"))]
    return [name for text in texts for name in re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)]


def public(module: str) -> list[str]:
    """The dotted names of what a module lists in ``__all__``; of anything else its own name."""
    path = ROOT / module.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not path.is_file():
        return [module]
    for node in ast.parse(path.read_text()).body:
        match node:
            case ast.Assign(targets=[ast.Name(id="__all__")]):
                return [f"{module}.{name}" for name in ast.literal_eval(node.value)]
    raise ValueError(f"{module} has no __all__")
