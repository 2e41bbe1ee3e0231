"""Lists every message that semseg ends with, its remedy and its place: ``scripts/error_index.py`` prints the page.

The site is built with it (``scripts/site_pages.py``), so it is never out of date. Messages are read from the code: the
text of each ``UserError(...)``, with NAME for what is filled in.
"""

from __future__ import annotations

import ast
import html
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).resolve().parent.parent / "src"
HEADER = """# Error index

A mistake ends in one line, `error: what is wrong; what to do`. Here is every such line of the code, by the part of the
project that says it; NAME stands for what is filled in. Search for a few words of yours, without its names and numbers.
Options of a wrong type or range are refused in one pattern, `OPTION=VALUE must be ...`: see [Options](options.md).

"""
_ENDS = (  # of a cause, the surest first: what follows is the remedy
    re.compile(r";\s*[A-Z_]*\s+"),
    re.compile(r": (?=(?:set|add|give|use|pip|or) )"),
    re.compile(r"(?<=[a-zA-Z)'\]])[.?]\s+(?=[A-Z-])"),
)
_GUESS = " Did you mean 'NAME'?"


class Message(NamedTuple):
    """One message of the code.

    Attributes:
        cause: what is wrong.
        remedy: what to do; empty if the message does not say.
        place: file and function, such as ``data/decoding.py: read_image``.
    """

    cause: str
    remedy: str
    place: str

    @property
    def helps(self) -> bool:
        """Whether it says what to do or the rule that was broken, or quotes (``: NAME``) a message that does."""
        return bool(self.remedy) or bool(re.search(" must | needs |: [A-Z]+$", self.cause))

    @property
    def package(self) -> str:
        """The first part of its path, such as ``data``."""
        return self.place.split(":")[0].split("/")[0].removesuffix(".py")


def messages(source: Path = SOURCE) -> list[Message]:
    """Every message in the Python files below ``source``, in their order."""
    return [message for path in sorted(source.rglob("*.py")) for message in _of_file(path, source)]


def page() -> str:
    """The whole page."""
    parts, taken = [HEADER], set()
    for package, group in groupby(sorted(messages(), key=lambda each: each.package), key=lambda each: each.package):
        parts.append(f"## {package}\n")
        parts.append(f"{_about(package)}\n")
        for message in group:
            anchor = _anchor(message.cause, taken)
            remedy = f"{_text(message.remedy[:1].upper() + message.remedy[1:])}\n" if message.remedy else ""
            parts.append(f"#### {_text(message.cause)} {{#{anchor}}}\n\n{remedy}<small>`src/{message.place}`</small>\n")
    return "\n".join(parts)


def _of_file(path: Path, source: Path) -> Iterator[Message]:
    tree = ast.parse(path.read_text())
    _spell_constants(tree)
    name = path.relative_to(source).as_posix()
    for function, call in _calls(tree, ""):
        for text in _texts(call.args[0]):
            text = " ".join(text.split())
            if len(re.findall(r"(?<![.=\w])[a-z]+(?![.=\w])", text)) < 2:  # put together elsewhere
                continue
            cut = next(filter(None, (end.search(text) for end in _ENDS)), None)
            cause, remedy = (text[: cut.start()], text[cut.end() :]) if cut else (text, "")
            yield Message(cause, remedy, f"{name}: {function}" if function else name)


def _spell_constants(tree: ast.Module) -> None:
    """Puts the texts that the module has names for in the place of these names."""
    named = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            node.values = [named.get(getattr(getattr(each, "value", None), "id", ""), each) for each in node.values]


def _calls(node: ast.AST, function: str) -> Iterator[tuple[str, ast.Call]]:
    """Every ``UserError(...)`` below ``node`` with the function or class that it stands in."""
    for child in ast.iter_child_nodes(node):
        inside = function
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inside = f"{function}.{child.name}".lstrip(".")
        if isinstance(child, ast.Call) and isinstance(child.func, ast.Name) and child.func.id == "UserError":
            yield inside, child
        yield from _calls(child, inside)


def _texts(node: ast.expr) -> list[str]:
    """What a message may say: more than one where a condition chooses."""
    match node:
        case ast.Constant():
            return [str(node.value)]
        case ast.JoinedStr():
            return ["".join(_part(each) for each in node.values)]
        case ast.BinOp(op=ast.Add()):
            return [left + right for left in _texts(node.left) for right in _texts(node.right)]
        case ast.IfExp():
            return [*_texts(node.body), *_texts(node.orelse)]
        case _:
            return [_name(node)]


def _part(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else _name(getattr(node, "value", node))


def _name(node: ast.expr) -> str:
    """A word for what is filled in: the last name of ``node``."""
    match node:
        case ast.Name(id="hint") | ast.Call(func=ast.Name(id="nearest")):
            return _GUESS
        case ast.Name():
            return node.id.upper().strip("_")
        case ast.Attribute():
            return node.attr.upper().strip("_")
        case ast.Subscript() | ast.Starred():
            return _name(node.value)
        case ast.Call(func=ast.Attribute(attr="join")) if node.args:
            return _name(node.args[0])
        case ast.Call(func=ast.Name()) if node.args:
            return _name(node.args[-1])
        case ast.Call():
            return _name(node.func)
        case ast.GeneratorExp() | ast.ListComp():
            return _name(node.generators[0].iter)
        case ast.BoolOp():
            return _name(node.values[0])
        case ast.BinOp():
            return _name(node.left)
        case _:
            return "VALUE"


def _about(package: str) -> str:
    """The first sentence of what a package or module says of itself."""
    path = SOURCE / package / "__init__.py"
    tree = ast.parse((path if path.is_file() else SOURCE / f"{package}.py").read_text())
    return re.split(r"\n\n|(?<=\.)\s", ast.get_docstring(tree) or "")[0].replace("\n", " ").replace("``", "`")


def _text(words: str) -> str:
    """Plain words as Markdown."""
    return re.sub(r"([\\`*_{}\[\]#])", r"\\\1", html.escape(words, quote=False))


def _anchor(cause: str, taken: set[str]) -> str:
    words = re.findall(r"[a-z]+", re.sub(r"\b[A-Z_]{2,}\b", "", cause).lower())
    stem = name = "-".join(words[:8]) or "message"
    number = 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name)
    return name


if __name__ == "__main__":
    print(page())
