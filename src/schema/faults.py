"""Checks plain values against annotations: those of a model's fields or of a function's parameters."""

from __future__ import annotations

import functools
import inspect
import math
import operator
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from annotated_types import Len
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ..errors import UserError, nearest
from .types import PathText, Target
from .words import choices, words, written

__all__ = [
    "Fault",
    "Options",
    "annotation_of",
    "call_faults",
    "checked",
    "hints",
    "model_faults",
    "not_finite",
    "spelled_hints",
]

_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)
Built = TypeVar("Built", bound=Callable[..., Any])


class Options(BaseModel):
    """Base of all models of options: no value is converted, no other option is let pass, and numbers are finite."""

    model_config = _STRICT


class Fault(NamedTuple):
    """An option, as the path to it, and the sentence about it, which begins with its value."""

    path: tuple[str, ...]
    sentence: str

    def __str__(self) -> str:
        return f"{'.'.join(self.path)}{self.sentence}"


def model_faults(model: type[Options], values: Mapping[str, Any]) -> list[Fault]:
    """What is wrong with ``values``, a tree of plain containers, as options of ``model``."""
    try:
        model.model_validate(values)
    except ValidationError as error:
        found = [_fault(model, values, each) for each in error.errors()]
        return list({fault.path: fault for fault in found}.values())
    return []


def not_finite(node: Any, path: tuple[str, ...] = ()) -> Iterator[Fault]:
    """The numbers in ``node`` and below, a tree of plain containers at ``path``, that are infinite or none at all."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from not_finite(value, (*path, str(name)))
    elif isinstance(node, list):
        for value in node:
            yield from not_finite(value, path)
    elif isinstance(node, float) and not math.isfinite(node):
        yield Fault(path, f"={node} must be finite")


def _fault(model: type[Options], values: Mapping[str, Any], error: Mapping[str, Any]) -> Fault:
    """The fault of the option that ``error`` is about, or of the one whose list or mapping holds what it is about."""
    path: list[str] = []
    kind, node, value = error["type"], model, values
    for name in error["loc"]:
        if not isinstance(value, Mapping):
            break
        if not (isinstance(node, type) and issubclass(node, BaseModel)):
            if (inner := _values_of(node)) is not None and name in value:
                path, value, node = [*path, str(name)], value[name], inner
            continue
        path.append(str(name))
        if kind == "missing" and name not in value:
            return Fault(tuple(path), f" is not set; give it on the command line as {'.'.join(path)}=...")
        field = node.model_fields.get(str(name))
        if field is None:
            known = [*node.model_fields]
            return Fault(tuple(path), f": there is no such option.{nearest(str(name), known)} All options: --cfg job")
        value, node = value.get(name), annotation_of(field)
        inner = [each for each in typing.get_args(node) or (node,) if isinstance(each, type)]
        node = next((each for each in inner if issubclass(each, BaseModel) and isinstance(value, Mapping)), node)
    if kind == "value_error":
        return Fault(tuple(path), str(error["ctx"]["error"]))
    return Fault(tuple(path), _must_be(value, node))


def _values_of(annotation: Any) -> Any:
    """The annotation of the values of a mapping, alone or among others; nothing if there is none."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return arguments[1]
    if origin in (typing.Union, types.UnionType, typing.Annotated):
        return next(filter(None, map(_values_of, arguments)), None)
    return None


def annotation_of(field: Any) -> Any:
    """What a field of a model may be, its range included."""
    return _annotated(field.annotation, *field.metadata) if field.metadata else field.annotation


def _annotated(annotation: Any, *notes: Any) -> Any:
    annotated: Any = typing.Annotated  # subscripted here with values, which no type checker reads as an annotation
    return annotated[(annotation, *notes)]


def _must_be(value: Any, annotation: Any) -> str:
    what = (
        "a group of options"
        if isinstance(annotation, type) and issubclass(annotation, BaseModel)
        else words(annotation)
    )
    known = choices(annotation)
    given = value if isinstance(value, list | tuple) else [value]
    unknown = [each for each in given if isinstance(each, str) and each not in known]
    hint = nearest(unknown[0], known) if unknown else ""
    return f"={written(value)} must be {what}{'.' if hint else ''}{hint}"


def call_faults(
    call: Callable[..., Any], given: Mapping[str, Any], *, complete: bool = False, described: bool = False
) -> list[Fault]:
    """What is wrong with ``given`` as keyword arguments of ``call``.

    Args:
        call: function or class, whose annotations say what it takes.
        given: name -> value.
        complete: whether a parameter without default must be among them.
        described: objects, such as modules, are given as a config describes them, as mappings with ``_target_``, and
            paths as text; otherwise parameters that take them are not checked.
    """
    parameters = inspect.signature(call).parameters
    named = {name for name, each in parameters.items() if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)}
    open_ended = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    found = []
    for name, value in given.items():
        if name not in named:
            if not open_ended:
                found.append(Fault((name,), f": there is no such option.{nearest(name, named)}"))
        elif (kind := _kind(call, name, described)) is not None:
            found += _value_faults(kind, name, value)
    if complete:
        found += [
            Fault((name,), f" is not set; give it on the command line as +{name}=...")
            for name in named - set(given)
            if parameters[name].default is inspect.Parameter.empty and _kind(call, name, False) is not None
        ]
    return found


def _value_faults(kind: Any, name: str, value: Any) -> list[Fault]:
    """At most one: of the value itself, or of the one in it, where it is a mapping, that is wrong."""
    try:
        _adapter(kind).validate_python(value)
    except ValidationError as error:
        path, inner = [name], _values_of(kind)
        wrong = next((part for part in error.errors()[0]["loc"] if isinstance(value, Mapping) and part in value), None)
        if inner is not None and isinstance(wrong, str):
            path, value, kind = [name, wrong], value[wrong], inner
        return [Fault(tuple(path), _must_be(value, kind))]
    return []


@functools.cache
def hints(call: Callable[..., Any]) -> dict[str, Any]:
    """Parameter -> annotation; ``Any`` for those that only a type checker can read."""
    function = call.__init__ if inspect.isclass(call) else call
    function = inspect.unwrap(function.func if isinstance(function, functools.partial) else function)
    scope = {**vars(typing), **getattr(function, "__globals__", {})}
    found = {}
    for name, parameter in inspect.signature(call).parameters.items():
        annotation = parameter.annotation
        if isinstance(annotation, str):
            try:
                annotation = eval(annotation, scope)
            except (NameError, AttributeError, TypeError, SyntaxError):
                annotation = Any
        found[name] = Any if annotation is parameter.empty else annotation
    return found


def spelled_hints(call: Callable[..., Any]) -> dict[str, Any]:
    """Parameter -> annotation in which objects stand as a config describes them."""
    return {name: _spelled(annotation) for name, annotation in hints(call).items()}


@functools.cache
def _kind(call: Callable[..., Any], name: str, described: bool) -> Any:
    """The annotation that a parameter is checked by; nothing for one that takes objects, unless they are described."""
    annotation = hints(call)[name]
    plain = _spelled(annotation)
    return plain if described or plain == annotation else None


def _spelled(annotation: Any) -> Any:
    """``annotation`` with what a config cannot spell replaced by how it is described there."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in (int, float, str, bool, type(None), None, Any, Ellipsis) or origin is typing.Literal:
        return annotation
    if origin is typing.Annotated:
        return _annotated(_spelled(arguments[0]), *annotation.__metadata__)
    if origin in (typing.Union, types.UnionType):
        inner = [_spelled(each) for each in arguments]
        return annotation if inner == list(arguments) else functools.reduce(operator.or_, inner)
    if origin is tuple:
        several = types.GenericAlias(Sequence, (_spelled(arguments[0]),))
        return several if arguments[-1] is Ellipsis else _annotated(several, Len(len(arguments), len(arguments)))
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping | Sequence):
        inner = tuple(_spelled(each) for each in arguments)
        return annotation if inner == arguments else types.GenericAlias(origin, inner)
    if annotation is Path:
        return PathText
    return Any if isinstance(annotation, typing.TypeVar) else Target


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind, config=_STRICT)


def checked(option: str) -> Callable[[Built], Built]:
    """Decorate a function or ``__init__`` so that arguments against its annotations are refused.

    Args:
        option: where these arguments stand in the config, such as ``inference.window``, for the message.

    A call then raises ``UserError`` naming the first argument that cannot be.
    """

    def decorate(function: Built) -> Built:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            given = dict(signature.bind(*arguments, **named).arguments)
            given.update(given.pop(_collected(signature), {}) or {})
            if found := call_faults(function, given):
                raise UserError(f"{option}.{found[0]}" if option else str(found[0]))
            return function(*arguments, **named)

        return typing.cast(Built, call)

    return decorate


def _collected(signature: inspect.Signature) -> str:
    """The name of ``**kwargs``, if there are any."""
    return next((name for name, each in signature.parameters.items() if each.kind is each.VAR_KEYWORD), "")
