"""A folder as one commit of a model repository."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import UserError
from .address import REPO, HubAddress
from .network import talking

__all__ = ["check_target", "push_folder"]


def check_target(repo: str) -> None:
    """Raise a ``UserError`` if ``repo`` is no name, or there is no token; known without asking the hub."""
    from huggingface_hub import get_token

    if not re.fullmatch(REPO, repo, re.ASCII):
        raise UserError(f"repo={repo}: is no name of a repository; write repo=user/name")
    if get_token() is None:
        raise UserError(
            f"repo={repo}: there is no token to push with; run 'hf auth login', or set HF_TOKEN to one that may write"
        )


def push_folder(folder: Path, repo: str, *, private: bool, message: str) -> tuple[str, HubAddress]:
    """Uploads the files of ``folder`` as one commit, to a repository that is made where it is missing.

    Hidden files and folders stay here: git keeps its own there, and people their keys.

    Args:
        folder: with files to upload.
        repo: ``user/name``.
        private: whether a new repository is for its owner only; one that exists stays as it is.
        message: of the commit.

    Returns:
        The page of the repository, and the address of what was pushed, with its commit.

    Raises:
        UserError: if the hub cannot be reached or refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    with talking(f"repo={repo}"):
        api = HfApi()
        page = api.create_repo(repo, private=private, exist_ok=True)
        adding = [CommitOperationAdd(path.name, path) for path in files]
        done = api.create_commit(repo, adding, commit_message=message)
    return str(page), HubAddress(repo, done.oid, "")
