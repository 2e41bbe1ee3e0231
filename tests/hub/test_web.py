"""``https://`` addresses, against a server of the test's own on 127.0.0.1: kept, resumed, checked, refused."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from src.errors import UserError
from src.hub.resolve import local_path, origin, whereabouts
from tests.conftest import ROOT
from tests.hub.small_hub import TOKEN, SmallHub, small_hub

CONTENT = bytes(range(251)) * 5000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SmallHub]:
    """A server with one file, and a cache that is empty."""
    with small_hub() as running:
        monkeypatch.setenv("SEMSEG_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100_000)
        monkeypatch.setattr("time.sleep", lambda _: None)
        running.commit("a/b", {"net.ckpt": CONTENT})
        yield running


def address(server: SmallHub, more: str = "") -> str:
    return f"{server.url}/a/b/resolve/main/net.ckpt{more}"


def refusal(text: str) -> str:
    """The one line that ends an attempt to fetch ``text``."""
    with pytest.raises(UserError) as caught:
        local_path(text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def fetched(server: SmallHub) -> int:
    """How often the body was sent: every fetch also asks for the headers alone, by a GET that it breaks off."""
    return len(server.asked("GET", "net.ckpt"))


def test_a_file_is_kept_until_the_server_has_another(server: SmallHub) -> None:
    path = local_path(address(server))
    assert path.read_bytes() == CONTENT
    assert origin(path) == address(server, f"#sha256={DIGEST}")
    assert whereabouts(address(server)) == f"in the cache, 1.3 MB: {path}"
    assert fetched(server) == 2
    assert local_path(address(server)) == path
    assert fetched(server) == 3
    assert local_path(address(server, f"#sha256={DIGEST}")) == path
    assert fetched(server) == 3  # with its digest it needs no network
    server.commit("a/b", {"net.ckpt": CONTENT[::-1]})
    assert local_path(address(server)).read_bytes() == CONTENT[::-1]
    assert all("authorization" not in headers for headers in server.asked("GET", ""))


def test_the_cache_serves_while_the_server_does_not(
    server: SmallHub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = local_path(address(server))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert local_path(address(server)) == path
    assert "the copy in the cache is used" in capsys.readouterr().out
    assert "HF_HUB_OFFLINE is set" in refusal(f"{server.url}/a/b/resolve/main/other.ckpt")


def test_a_download_goes_on_in_the_next_process(server: SmallHub) -> None:
    server.faults |= {"break_after": 400_000, "always": True}
    folder = Path(os.environ["SEMSEG_CACHE"], "downloads")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("src.hub.web._fetched", _stopped_after(1))
        with pytest.raises(KeyboardInterrupt):
            local_path(address(server))
    (partial,) = folder.rglob(".partial.*")
    assert 0 < partial.stat().st_size < len(CONTENT)
    assert whereabouts(address(server)) == "not here yet, will be downloaded"
    server.faults.clear()
    done = partial.stat().st_size
    assert local_path(address(server)).read_bytes() == CONTENT
    last = server.asked("GET", "net.ckpt")[-1]
    assert (last.get("range"), last.get("if-range")) == (f"bytes={done}-", f'"{DIGEST}"')
    assert not list(folder.rglob(".partial.*"))


def _stopped_after(tries: int):
    """The fetch, stopped as by Ctrl-C when it would try to go on by itself."""
    from src.hub import web

    whole = web._fetched

    def run(*arguments):
        def stop(_: float) -> None:
            raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("time.sleep", stop)
            return whole(*arguments)

    return run


def test_another_file_is_not_glued_to_half_of_the_first(server: SmallHub) -> None:
    server.faults |= {"break_after": 400_000, "always": True}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("src.hub.web._fetched", _stopped_after(1))
        with pytest.raises(KeyboardInterrupt):
            local_path(address(server))
    server.faults.clear()
    server.commit("a/b", {"net.ckpt": CONTENT[::-1]})
    assert local_path(address(server)).read_bytes() == CONTENT[::-1]


def test_the_digest_in_the_address_is_checked(server: SmallHub) -> None:
    assert local_path(address(server, f"#sha256={DIGEST.upper()}")).read_bytes() == CONTENT
    server.commit("a/b", {"other.ckpt": b"x"})
    wrong = f"{server.url}/a/b/resolve/main/other.ckpt#sha256={DIGEST}"
    assert f"not the {DIGEST} that follows #" in refusal(wrong)
    assert "not the" in refusal(wrong)  # the second time as well: nothing was kept


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ({"login": True}, "is a web page, not a file"),
        ({"redirect": "file:///etc/passwd"}, "redirects to file://"),
        ({"redirect": "http://example.org/x.ckpt"}, "redirects to http://"),
        ({"endless": True}, "more than the announced"),
        ({"status": 404}, "there is no such file"),
        ({"status": 403}, "the server wants a login (403)"),
        ({"status": 503}, "the server says 503"),
    ],
)
def test_a_hostile_server_is_refused(
    server: SmallHub, monkeypatch: pytest.MonkeyPatch, faults: dict[str, object], said: str
) -> None:
    monkeypatch.setattr("src.hub.network.LARGEST", 2**21)
    server.faults |= faults
    assert said in refusal(address(server))
    assert not list(Path(os.environ["SEMSEG_CACHE"]).rglob("net.ckpt"))


def test_a_huge_file_is_refused_before_it_is_fetched(server: SmallHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.hub.web.LARGEST", 1000)
    assert "more than any net here needs" in refusal(address(server))


def test_what_opens_a_signed_address_is_not_printed(server: SmallHub, capfd: pytest.CaptureFixture[str]) -> None:
    server.faults["break_after"] = 400_000
    path = local_path(address(server, "?download=1&X-Signature=geheim"))
    assert "geheim" not in (origin(path) or "")
    assert "download=1" in (origin(path) or "")
    assert "geheim" not in path.with_name("origin.json").read_text()
    server.faults["status"] = 403
    assert "geheim" not in refusal(f"{server.url}/x.ckpt?sig=geheim")
    assert "geheim" not in "".join(capfd.readouterr())


@pytest.mark.slow
def test_a_killed_download_goes_on_and_two_processes_fetch_once(server: SmallHub, tmp_path: Path) -> None:
    large = os.urandom(2**20) * 64
    server.commit("a/b", {"large.ckpt": large})
    text = f"{server.url}/a/b/resolve/main/large.ckpt"
    code = f"from src.hub.resolve import local_path; print(local_path({text!r}))"

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)

    first = start()
    deadline = time.monotonic() + 60
    folder = Path(os.environ["SEMSEG_CACHE"], "downloads")
    while not any(path.stat().st_size for path in folder.rglob(".partial.*ckpt")) and time.monotonic() < deadline:
        os.sched_yield()
    first.send_signal(signal.SIGKILL)
    first.wait()
    killed = [path.stat().st_size for path in folder.rglob(".partial.*ckpt")]
    both = [start(), start()]
    paths = {each.communicate(timeout=120)[0].splitlines()[-1] for each in both}
    assert len(paths) == 1
    assert Path(paths.pop()).read_bytes() == large
    if killed:  # else it was faster than the signal
        ranges = [headers["range"] for headers in server.asked("GET", "large.ckpt") if "range" in headers]
        assert ranges == [f"bytes={killed[0]}-"]
