"""What all downloads and uploads keep to: no answer leads out of the cache, runs without end, or reveals a token."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies

from ..errors import UserError, printable

__all__ = ["LARGEST", "MIRROR", "hub_without_retries", "limited_bar", "refused", "talking"]

MIRROR = "SEMSEG_MIRROR"
"""Environment variable: a folder of models, laid out as ``user/name/...``, that is asked before the hub."""
LARGEST = 32 * 2**30
"""Bytes of the largest file that is fetched; the largest net here has 2 GB."""

_NAME = re.compile(r"[A-Za-z0-9_-][\w.:=+-]{0,200}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_LOCAL = ("127.0.0.1", "::1", "localhost")


@contextmanager
def talking(what: object, *, web: bool = False) -> Iterator[None]:
    """Let huggingface_hub talk to a server in the block, and put whatever goes wrong into one sentence.

    Args:
        what: address that the block is about, for that sentence.
        web: whether the server is another one than the hub.

    Raises:
        UserError: for any failure, without the libraries' own words where these could tell a secret.
    """
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils import logging
    from huggingface_hub.utils._http import default_client_factory

    def client() -> Any:
        made = default_client_factory()
        made.event_hooks = {**made.event_hooks, "response": [*made.event_hooks["response"], _check_answer]}
        return made

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # its warnings hold whole addresses, with the signatures of some
    set_client_factory(client)
    try:
        with contextlib.nullcontext() if web else hub_without_retries():
            yield
    except UserError:
        raise
    except Exception as error:
        # Without its cause: errors of the libraries hold requests, and these hold the token.
        raise UserError(f"{what}: {(web and _of_web(error)) or refused(error)}") from None
    finally:
        set_client_factory(default_client_factory)
        logging.set_verbosity(verbosity)


def _check_answer(response: Any) -> None:
    """Refuses headers that become a path in huggingface_hub's cache, and redirects to anything but the web."""
    where, headers = response.request.url, response.headers
    if "x-repo-commit" in headers:
        tags = [headers[name].removeprefix("W/").strip('"') for name in ("etag", "x-linked-etag") if name in headers]
        if not _COMMIT.fullmatch(headers["x-repo-commit"]) or not all(map(_NAME.fullmatch, tags)):
            raise UserError(
                f"{where.host}: its answer has a commit or ETag that is none, and could lead out of the cache; do not"
                " use this server (HF_ENDPOINT names it)"
            )
    if "location" in headers:
        there = urlsplit(urljoin(str(where), headers["location"]))
        same = (there.scheme, there.hostname) == (where.scheme, where.host)
        if not same and there.scheme != "https" and not (there.scheme == "http" and there.hostname in _LOCAL):
            raise UserError(
                f"{where.host}: redirects to {printable(there.scheme)}://, which is no https; do not use this server"
            )


def limited_bar(what: object) -> Any:
    """A class of progress bars that end a download once it has more bytes than were announced, or ``LARGEST``."""
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):
        """Counts also where nothing is shown."""

        def __init__(self, *args: Any, **options: Any) -> None:
            self.seen, self.most = options.get("initial") or 0, options.get("total") or LARGEST
            super().__init__(*args, **options)

        def update(self, n: float | None = 1) -> bool | None:
            self.seen += n or 0
            if self.seen > self.most:
                raise UserError(f"{what}: more than the announced {self.most} bytes arrive; do not use this server")
            return super().update(n)

    return Bar


def _of_web(error: Exception) -> str | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return f"the server wants a login ({status}); download the file in a browser and give its path"
    return None


def refused(error: Exception) -> str:
    """What is wrong and what to do about it, for an error of huggingface_hub or of what it is built on."""
    from huggingface_hub import constants, errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    endpoint, mirror = constants.ENDPOINT, f"or set {MIRROR} to a folder that holds user/name"
    if isinstance(error, errors.GatedRepoError):
        return f"needs its owner's consent; ask for it at {endpoint}, then log in with 'hf auth login' or HF_TOKEN"
    if isinstance(error, errors.RepositoryNotFoundError) or status == 401:
        return "is not there, or not for everybody; check its name, and log in with 'hf auth login' or set HF_TOKEN"
    if isinstance(error, errors.RevisionNotFoundError):
        return "has no such revision; give a branch, tag or commit that the repository has"
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        cause = error.__cause__
        if constants.HF_HUB_OFFLINE:
            return f"is not in the cache and HF_HUB_OFFLINE is set; unset it, {mirror}"
        if isinstance(cause, errors.FileMetadataError):
            return f"{endpoint} does not answer as a hub does; set HF_ENDPOINT, or log in to your network first"
        if cause is not None and not isinstance(cause, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
            status = getattr(getattr(cause, "response", None), "status_code", None)
            if status is not None:
                return f"the server says {status}; try again later, {mirror}"
        return f"cannot be reached ({endpoint}); check the network, HTTPS_PROXY and HF_ENDPOINT, {mirror}"
    if isinstance(error, errors.EntryNotFoundError) or status == 404:
        return "there is no such file; check the address"
    if status == 403:
        return "the server forbids it; use a token that may (HF_TOKEN, 'hf auth login'), or download the file yourself"
    if status is not None:
        return f"the server says {status}; try again later"
    if isinstance(error, errors.HFValidationError):
        return "is no name of a repository; write user/name"
    if type(error).__module__.startswith("http") or isinstance(error, ConnectionError | TimeoutError):
        return f"the connection failed ({type(error).__name__}); check the network and HTTPS_PROXY, and run it again"
    if "Consistency check failed" in str(error):
        return "came with another size than announced; run it again"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be kept ({error.strerror}: {error.filename}); free some space, or set HF_HOME and SEMSEG_CACHE"
    return f"the server answers what cannot be used ({type(error).__name__}); check HF_ENDPOINT and the address"


@contextmanager
def hub_without_retries() -> Iterator[None]:
    """Where the hub cannot be reached, only its cache is asked, instead of a minute of retries."""
    from huggingface_hub import constants

    offline, hub = constants.HF_HUB_OFFLINE, urlsplit(constants.ENDPOINT)
    try:
        if not offline and not getproxies():
            address = hub.hostname, hub.port or (443 if hub.scheme == "https" else 80)
            with suppress(TimeoutError):  # slow is not unreachable
                socket.create_connection(address, timeout=5).close()
    except OSError:
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = offline
