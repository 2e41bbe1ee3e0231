"""The one place in which what a config names is imported and called."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Mapping
from typing import Any

from hydra import utils as hydra_utils
from hydra.errors import InstantiationException
from hydra.utils import instantiate as hydra_instantiate
from omegaconf import OmegaConf

from src.errors import UserError

__all__ = ["TARGETS", "instantiate", "targets"]

TARGETS = ("src.", "torch.", "pytorch_lightning.", "albumentations.", "timm.")
"""How a ``_target_`` may begin."""


def instantiate(node: Any, *, allowed: tuple[str, ...] = TARGETS, **arguments: Any) -> Any:
    """The object that ``node`` describes, nested ones included, with plain containers as arguments.

    Raises:
        UserError: for a ``_target_`` outside the allowed packages, or arguments that it does not take.
    """
    for target, options in targets(node):
        if not target.startswith(allowed):
            raise UserError(f"_target_ {target} is not allowed; use one that starts with {', '.join(allowed)}")
        _check_lists(target, options)
    try:
        with warnings.catch_warnings():
            # Albumentations drops arguments that it does not know, such as the former name of a mask's fill value.
            warnings.filterwarnings("error", message="Argument.* not valid for transform")
            return hydra_instantiate(node, _convert_="all", **arguments)
    except InstantiationException as error:
        cause = error.__cause__ or error.__context__
        if isinstance(cause, UserError):
            raise cause from None
        reason = _reason(cause)
        if isinstance(cause, (TypeError, ValueError, RuntimeError, UserWarning)):
            raise UserError(f"{node['_target_']}: {reason}; correct its values") from error
        if isinstance(cause, ImportError):
            raise UserError(
                f"{node['_target_']}: {reason}; correct its _target_, or install what is missing (requirements.txt)"
            ) from error
        raise


def _reason(cause: BaseException | None) -> str:
    """What an error says, in one line; of values that pydantic refuses for albumentations without its addresses."""
    text = " ".join(str(cause).split())
    return re.sub(r"\d+ validation errors? for InitSchema | For further information visit \S+(?<![;,])", "", text)


def targets(node: Any) -> list[tuple[str, Mapping[str, Any]]]:
    """Every target in ``node`` with its options."""
    plain = OmegaConf.to_container(node, resolve=False) if OmegaConf.is_config(node) else node
    if isinstance(plain, Mapping):
        own = [(plain["_target_"], plain)] if "_target_" in plain else []
        return own + [found for value in plain.values() for found in targets(value)]
    return [found for value in plain for found in targets(value)] if isinstance(plain, list) else []


def _check_lists(target: str, options: Mapping[str, Any]) -> None:
    """Refuses a single number where one of this project's constructors takes a list."""
    scalars = [
        name for name, value in options.items() if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    if not scalars or not target.startswith("src."):
        return
    parameters = inspect.signature(hydra_utils.get_object(target)).parameters
    for name in scalars:
        if name in parameters and str(parameters[name].annotation).startswith("Sequence["):
            raise UserError(f"{name}={options[name]} must be a list; write {name}=[{options[name]}]")
