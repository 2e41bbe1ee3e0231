"""A command in a program or a notebook: as on the command line, with a value returned and nothing left behind."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from ..build.validate import check_line, several_processes
from ..errors import UserError
from ..files.project import CONFIG_DIR, as_called
from .checkpoint_defaults import own_store
from .command import checked, sentence_of, settled
from .overrides import readable

__all__ = ["own_hydra", "run"]

Result = TypeVar("Result")


def run(name: str, overrides: Sequence[str], task: Callable[[DictConfig], Result]) -> Result:
    """Runs ``task`` with the config that the command ``name`` composes of ``overrides``, in this process.

    Options are checked as those of the command, and its folder is made alike. Hydra, ``sys.argv``, environment,
    working folder, logging, warnings and the answer to Ctrl-C are afterwards what they were.

    Returns:
        What ``task`` returns.

    Raises:
        UserError: with the sentence that the command would print.
        KeyboardInterrupt: where the task was stopped by Ctrl-C.
    """
    given, root = list(overrides), name
    errors: list[Exception] = []

    def of_one_process(cfg: DictConfig) -> Result:
        if "trainer" in cfg and (several := several_processes(cfg)):
            raise UserError(
                f"{several}: from Python a command runs in one process on one device; set trainer.devices=1, or start"
                f" several with python -m src.{name}"
            )
        return task(cfg)

    with _left_as_it_was():
        try:
            _refuse_flags(given)
            root, line = settled(name, readable(given))
            check_line(name, str(CONFIG_DIR), root, line)
            with hydra.initialize_config_dir(str(CONFIG_DIR), job_name=name, version_base="1.3"):
                composing = GlobalHydra.instance().hydra
                assert composing is not None
                job = composing.run(root, checked(of_one_process, errors.append), line, with_log_configuration=False)
            if errors:
                raise errors[0]
            return job.return_value
        except SystemExit as ending:
            if isinstance(ending.code, int) and ending.code > 128:  # a signal asks the whole process to end
                raise
            raise KeyboardInterrupt from ending
        except Exception as error:
            if sentence := sentence_of(error, root, given):
                raise UserError(as_called(sentence)) from error
            raise


_one_thread = threading.RLock()


@contextlib.contextmanager
def own_hydra() -> Iterator[None]:
    """Hydra is in the block as in a new process, and afterwards as it was, also where the caller uses it.

    Threads pass one after the other, since a process has one Hydra.
    """
    with _one_thread:
        of_all, of_job = GlobalHydra.instance(), HydraConfig.instance()
        before = of_all.hydra, of_job.cfg
        of_all.hydra = None
        try:
            with own_store():
                yield
        finally:
            GlobalHydra.instance().hydra, HydraConfig.instance().cfg = before


def _refuse_flags(given: Sequence[str]) -> None:
    if flag := next((item for item in given if item.startswith(("-", "hydra.mode="))), None):
        raise UserError(f"{flag}: is for the command line; in Python give options, written name=value, for one run")


@contextlib.contextmanager
def _left_as_it_was() -> Iterator[None]:
    environment, line, folder = dict(os.environ), list(sys.argv), Path.cwd()
    loggers = [each for each in logging.root.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    levels = [(each, each.level) for each in (logging.root, *loggers)]
    on_interrupt = signal.getsignal(signal.SIGINT)
    with own_hydra(), warnings.catch_warnings():
        try:
            yield
        finally:
            for name in set(os.environ) - set(environment):
                del os.environ[name]
            os.environ.update(environment)
            sys.argv[:] = line
            os.chdir(folder)
            for logger, level in levels:
                logger.setLevel(level)
            if on_interrupt is not None and threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, on_interrupt)  # Lightning ignores it once a run was stopped
