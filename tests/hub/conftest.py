"""The small hub in place of the one that huggingface_hub knows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.hub.small_hub import TOKEN, SmallHub, small_hub


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SmallHub]:
    """The hub that huggingface_hub asks, which is empty, and an empty cache."""
    with small_hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # a service of its own, which no test can play
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100_000)  # what is lost of a broken one at most
        monkeypatch.setattr("time.sleep", lambda _: None)  # between tries
        monkeypatch.delenv("SEMSEG_MIRROR", raising=False)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server
