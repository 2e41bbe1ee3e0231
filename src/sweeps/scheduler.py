"""Which trial starts next: the rows of a table in order, or the suggestions of a search."""

from __future__ import annotations

import functools
import statistics
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from ..errors import UserError
from ..files.project import pip_install
from .spec import Row, Sweep, Trial, override

__all__ = ["Listed", "Plan", "Search", "row_of"]

Record = Mapping[str, Any]
Curve = Sequence[tuple[int, float]]


class Plan(Protocol):
    """Order of the trials."""

    def next(self) -> Trial | None:
        """The next one to start; ``None`` if there is none, or none before another ends."""

    def ended(self, trial: Trial, record: Record) -> None:
        """``record`` is the journal's: ``status``, ``value``, ``curve``."""

    def should_prune(self, trial: Trial, curve: Curve) -> bool:
        """Whether to stop a trial, by its objective so far."""


class Listed:
    """The rows of ``sweep`` with each seed, but for trials that have ended."""

    def __init__(self, sweep: Sweep, ended: Mapping[str, Record]) -> None:
        every = (trial for row in sweep.rows for trial in sweep.trials(row))
        self._left = deque(trial for trial in every if trial.id not in ended)

    def next(self) -> Trial | None:
        return self._left.popleft() if self._left else None

    def ended(self, trial: Trial, record: Record) -> None:
        pass

    def should_prune(self, trial: Trial, curve: Curve) -> bool:
        return False


def row_of(index: int, params: Mapping[str, Any]) -> Row:
    """The row that a suggestion makes."""
    return Row(index, f"{index}", tuple(override(name, value) for name, value in params.items()))


class Search:
    """Suggestions of Optuna (the tree-structured Parzen estimator), rebuilt from the journal at each start.

    Optuna's own storage is not used, so that the journal stays the one record of a sweep. The first seed of a
    suggestion may be pruned; the others start once it has finished, and Optuna is told the mean over seeds.

    Args:
        sweep: with a ``search``.
        suggested: records of suggestions.
        ended: record of each trial that has ended, by its id.
        note: writes a new suggestion into the journal: called with ``row`` and ``params``.
    """

    def __init__(
        self, sweep: Sweep, suggested: Sequence[Record], ended: Mapping[str, Record], *, note: Callable[..., Any]
    ) -> None:
        self._optuna = _optuna()
        self._sweep, self._options, self._note = sweep, dict(sweep.search or {}), note
        self._space = {name: _Space(self._optuna, name, given) for name, given in self._options["space"].items()}
        self._study = self._new_study(len(suggested))
        self._open: dict[int, Any] = {}  # row -> Optuna's trial, until Optuna has been told how it ended
        self._records: dict[str, Record] = {}
        self._left: deque[Trial] = deque()
        self._told: dict[str, int] = {}  # trial -> validations that Optuna has been told of
        self._count = 0
        for record in suggested:
            self._replay(record, ended)

    def _new_study(self, past: int) -> Any:
        optuna, startup = self._optuna, self._options["startup"]
        samplers, pruners = optuna.samplers, optuna.pruners
        seed = self._options["seed"] + past  # a resumed search must not repeat the first draws of its sampler
        joint = {"multivariate": True, "group": True}  # options are drawn together, those of a condition by themselves
        makers = {
            "tpe": functools.partial(samplers.TPESampler, seed=seed, n_startup_trials=startup, **joint),
            "random": functools.partial(samplers.RandomSampler, seed=seed),
        }
        prune = {
            "median": functools.partial(pruners.MedianPruner, startup, self._options["warmup"]),
            None: pruners.NopPruner,
        }
        for option, choices in (("sampler", makers), ("pruner", prune)):
            if self._options[option] not in choices:
                names = ", ".join("null" if each is None else each for each in choices)
                raise UserError(f"sweep.search.{option}={self._options[option]} is unknown; use one of: {names}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = makers[self._options["sampler"]]()
        pruner = prune[self._options["pruner"]]()
        return optuna.create_study(direction=self._sweep.direction, sampler=sampler, pruner=pruner)

    def _replay(self, record: Record, ended: Mapping[str, Record]) -> None:
        """Brings an earlier suggestion back: finished for Optuna if its trials have ended, else they will be run."""
        self._study.enqueue_trial(dict(record["params"]))  # the next question to Optuna is answered with these
        row = self._ask(note=False)
        for trial in self._sweep.trials(row):
            if trial.id in ended:
                self.should_prune(trial, ended[trial.id].get("curve") or [])  # the pruner compares with earlier curves
                self.ended(trial, ended[trial.id])

    def _ask(self, *, note: bool = True) -> Row:
        """Gets a suggestion, writes it down unless it comes from the journal, and queues its first seed."""
        index, asked, params = self._count, self._study.ask(), {}
        self._count += 1
        # Option by option, since whether one exists may depend on those before it.
        for name, space in self._space.items():
            if space.applies(params):
                params[name] = space.suggest(asked)
        if note:
            self._note(row=index, params=params)
        row = row_of(index, params)
        self._open[index] = asked
        self._left.append(self._sweep.trials(row)[0])
        return row

    def next(self) -> Trial | None:
        if not self._left and self._count < self._options["trials"]:
            self._ask()
        return self._left.popleft() if self._left else None

    def ended(self, trial: Trial, record: Record) -> None:
        asked, states = self._open.get(trial.row.index), self._optuna.trial.TrialState
        if trial in self._left:  # it had ended before this driver started
            self._left.remove(trial)
        if asked is None:
            return
        self._records[trial.id] = record
        first, *others = self._sweep.trials(trial.row)
        if trial == first and record["status"] != "done":  # a bad start is not worth the other seeds
            del self._open[trial.row.index]
            self._study.tell(asked, state=states.PRUNED if record["status"] == "pruned" else states.FAIL)
            return
        if trial == first:
            self._left.extend(others)
        if all(each.id in self._records for each in (first, *others)):
            values = [self._records[each.id]["value"] for each in (first, *others)]
            del self._open[trial.row.index]
            self._study.tell(asked, statistics.mean(value for value in values if value is not None))

    def should_prune(self, trial: Trial, curve: Curve) -> bool:
        asked = self._open.get(trial.row.index)
        if asked is None or trial != self._sweep.trials(trial.row)[0] or not curve:
            return False
        told = self._told.get(trial.id, 0)
        # Validations are numbered: trials of other batch sizes have other steps, and could not be compared by them.
        for number, (_, value) in enumerate(curve[told:], told):
            asked.report(value, number)
        self._told[trial.id] = len(curve)
        return len(curve) > told and asked.should_prune()


class _Space:
    """An option's values: ``choices``, or ``low`` and ``high`` with ``log`` or ``step``; ``when`` it exists at all."""

    def __init__(self, optuna: Any, name: str, given: Mapping[str, Any]) -> None:
        self._name, given = name, dict(given)
        self._when = dict(given.pop("when", None) or {})
        self._is_choice, self._is_whole = "choices" in given, False
        kinds = optuna.distributions
        try:
            if self._is_choice:
                self._kind = kinds.CategoricalDistribution(**given)
            elif isinstance(given["low"], int) and isinstance(given["high"], int):
                self._is_whole = True
                self._kind = kinds.IntDistribution(**given)
            else:
                self._kind = kinds.FloatDistribution(**given)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"sweep.search.space: {name}: {error}; give choices, or low and high with log or step"
            ) from error

    def applies(self, params: Mapping[str, Any]) -> bool:
        """Whether the options chosen before call for this one."""
        return all(name in params and params[name] == value for name, value in self._when.items())

    def suggest(self, trial: Any) -> Any:
        kind = self._kind
        if self._is_choice:
            return trial.suggest_categorical(self._name, kind.choices)
        suggest = trial.suggest_int if self._is_whole else trial.suggest_float
        return suggest(self._name, kind.low, kind.high, step=kind.step, log=kind.log)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        how = pip_install("search", "optuna==5.0.0")
        raise UserError(f"sweep.search needs Optuna; install it: {how}") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
