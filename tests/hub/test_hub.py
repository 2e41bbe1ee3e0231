"""``hf://`` against a hub of the test's own: what is fetched, kept, pinned, mirrored, and what a hostile one gets."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest
from huggingface_hub import constants

from src.errors import UserError
from src.hub.address import HubAddress, parse
from src.hub.resolve import local_path, origin, whereabouts
from src.hub.upload import check_target, push_folder
from tests.hub.small_hub import TOKEN, SmallHub, small_hub

REPO = "jan/streets"
FILES = {"model.safetensors": bytes(range(256)) * 4096, "config.json": b'{"a": 1}', "README.md": b"# streets\n"}
SUMS = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in FILES.items()).encode()
BUNDLE = {**FILES, "SHA256SUMS": SUMS}


@pytest.fixture
def hub(small: SmallHub) -> SmallHub:
    """A hub with a repository that holds a bundle and two files besides."""
    small.commit(REPO, {**BUNDLE, "large.bin": b"not needed", "old.ckpt": b"weights"})
    return small


def refusal(text: str) -> str:
    """The one line that ends an attempt to fetch ``text``."""
    with pytest.raises(UserError) as caught:
        local_path(text)
    message = str(caught.value)
    assert "\n" not in message
    assert TOKEN not in message
    assert caught.value.__cause__ is None  # which would hold the request, and so the token
    return message


def test_only_a_bundles_own_files_are_fetched_once(hub: SmallHub) -> None:
    folder = local_path(f"hf://{REPO}")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == BUNDLE
    assert not hub.asked("GET", "large.bin")
    before = len([each for each in hub.requests if each[0] == "GET"])
    assert local_path(f"hf://{REPO}") == folder
    assert len([each for each in hub.requests if each[0] == "GET"]) == before


def test_the_commit_is_told_and_brings_the_same_again(hub: SmallHub) -> None:
    folder = local_path(f"hf://{REPO}")
    pin = origin(folder)
    assert pin == f"hf://{REPO}@{hub.commits[REPO][-1][0]}"
    hub.commit(REPO, {"README.md": b"newer", "SHA256SUMS": SUMS.replace(b"README.md", b"old.ckpt")})
    newer = local_path(f"hf://{REPO}")
    assert origin(newer) == f"hf://{REPO}@{hub.commits[REPO][-1][0]}"
    assert local_path(pin) == folder
    assert (folder / "README.md").read_bytes() == FILES["README.md"]
    assert origin(Path("runs/x/checkpoints/best.ckpt")) is None


def test_a_single_file_is_named_by_its_path(hub: SmallHub) -> None:
    path = local_path(f"hf://{REPO}/old.ckpt")
    assert (path.name, path.read_bytes()) == ("old.ckpt", b"weights")
    assert origin(path) == f"hf://{REPO}@{hub.commits[REPO][-1][0]}/old.ckpt"
    hub.commit("jan/plain", {"a.ckpt": b"1"})
    assert "is no bundle, as it has no SHA256SUMS; name one of its files: hf://jan/plain/a.ckpt" in refusal(
        "hf://jan/plain"
    )
    assert f"has no new.ckpt; name one of its files: hf://{REPO}/" in refusal(f"hf://{REPO}/new.ckpt")


def test_a_download_that_breaks_off_goes_on_where_it_was(hub: SmallHub) -> None:
    hub.faults["break_after"] = 700_000
    folder = local_path(f"hf://{REPO}")
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert [headers.get("range") for headers in hub.asked("GET", "model.safetensors")] == [None, "bytes=700000-"]


def test_without_a_network_the_cache_serves(hub: SmallHub, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = local_path(f"hf://{REPO}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    before = len(hub.requests)
    assert local_path(f"hf://{REPO}") == folder
    assert refusal("hf://jan/other") == (
        "hf://jan/other: is not in the cache and HF_HUB_OFFLINE is set; unset it, or set SEMSEG_MIRROR to a folder that"
        " holds user/name"
    )
    assert len(hub.requests) == before
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub.shutdown()
    hub.server_close()
    started = time.monotonic()
    assert local_path(f"hf://{REPO}") == folder
    assert "cannot be reached" in (line := refusal("hf://jan/other"))
    assert all(word in line for word in ("HTTPS_PROXY", "HF_ENDPOINT", "SEMSEG_MIRROR"))
    assert time.monotonic() - started < 5
    assert constants.HF_HUB_OFFLINE is False


def test_a_mirror_is_asked_first(hub: SmallHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = tmp_path / "mirror"
    (mirror / REPO).mkdir(parents=True)
    (mirror / f"{REPO}@v1").mkdir()
    (mirror / REPO / "net.ckpt").write_bytes(b"here")
    monkeypatch.setenv("SEMSEG_MIRROR", str(mirror))
    assert local_path(f"hf://{REPO}") == mirror / REPO
    assert local_path(f"hf://{REPO}@v1") == mirror / f"{REPO}@v1"
    assert local_path(f"hf://{REPO}/net.ckpt").read_bytes() == b"here"
    assert whereabouts(f"hf://{REPO}") == f"in the mirror, 0.0 MB: {mirror / REPO}"
    assert hub.requests == []
    assert local_path(f"hf://{REPO}/old.ckpt").read_bytes() == b"weights"  # what it lacks comes from the hub
    monkeypatch.setenv("SEMSEG_MIRROR", str(mirror / "none"))
    assert "is no folder" in refusal(f"hf://{REPO}")


def test_whereabouts_ask_no_network(hub: SmallHub) -> None:
    assert whereabouts(f"hf://{REPO}") == "not here yet, will be downloaded"
    assert hub.requests == []
    folder = local_path(f"hf://{REPO}")
    before = len(hub.requests)
    assert whereabouts(f"hf://{REPO}") == f"in the cache, 1.0 MB: {folder}"
    assert len(hub.requests) == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"hf://{REPO}@v9", "has no such revision"),
        ("hf://jan/nothing", "is not there, or not for everybody"),
        ("hf://jan", "is no address of a model; write hf://user/name"),
        ("hf://jan/../etc", "is no address of a model"),
        ("hf://jan/a/../../x.ckpt", "has no '..'"),
        ("hf://jan/a/b\\..\\x.ckpt", "has no '..'"),
        ("hf://jan/a@../../x", "is no address of a model"),
        ("s3://bucket/x.ckpt", "hf:// and https:// only"),
        ("http://example.org/x.ckpt", "hf:// and https:// only"),
        ("file:///etc/passwd", "hf:// and https:// only"),
        ("https://user:word@example.org/x.ckpt", "a name or password"),
        ("https://example.org/x.ckpt#sha256=12", "64 hexadecimal digits"),
        ("https://example.org/", "names no file"),
    ],
)
def test_an_address_that_leads_nowhere(hub: SmallHub, text: str, said: str) -> None:
    assert said in refusal(text)


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ({"etag": "../../../../stolen"}, "could lead out of the cache"),
        ({"etag": "/tmp/stolen"}, "could lead out of the cache"),
        ({"commit": "../../stolen"}, "could lead out of the cache"),
        ({"redirect": "file:///etc/passwd"}, "redirects to file://, which is no https"),
        ({"redirect": "http://example.org/model"}, "redirects to http://, which is no https"),
        ({"endless": True}, "more than the announced"),
        ({"login": True}, "does not answer as a hub does"),
        ({"status": 500}, "the server says 500"),
        ({"status": 403}, "the server says 403"),
    ],
)
def test_a_hostile_hub_is_refused(hub: SmallHub, tmp_path: Path, faults: dict[str, object], said: str) -> None:
    hub.faults |= faults
    assert said in refusal(f"hf://{REPO}/model.safetensors")
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size > 100]
    assert [path.name for path in files] in ([], ["CACHEDIR.TAG"])


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "a\\..\\x"])
def test_names_in_a_bundle_stay_in_its_folder(hub: SmallHub, name: str) -> None:
    hub.commit("jan/evil", {"SHA256SUMS": f"{'0' * 64}  {name}\n".encode()})
    assert "lies outside of its folder" in refusal("hf://jan/evil")


def test_the_token_goes_to_the_hub_alone(hub: SmallHub) -> None:
    with small_hub() as other:
        other.commit(REPO, {"model.safetensors": FILES["model.safetensors"]})
        hub.faults["redirect"] = f"{other.url}/{REPO}/resolve/main/model.safetensors"
        assert local_path(f"hf://{REPO}/model.safetensors").read_bytes() == FILES["model.safetensors"]
        assert {headers.get("authorization") for _, _, headers in hub.requests} == {f"Bearer {TOKEN}"}
        assert {headers.get("authorization") for _, _, headers in other.requests} == {None}


def test_pushed_files_come_back(hub: SmallHub, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name, content in BUNDLE.items():
        (folder / name).write_bytes(content)
    page, address = push_folder(folder, "jan/new", private=True, message="the first")
    assert page == f"{hub.url}/jan/new"
    assert len(hub.commits["jan/new"]) == 1
    assert hub.private == {"jan/new": True}
    assert address == parse(f"hf://jan/new@{hub.commits['jan/new'][0][0]}")
    assert {path.name: path.read_bytes() for path in local_path(str(address)).iterdir()} == BUNDLE


def test_pushing_without_the_right_says_what_to_do(
    hub: SmallHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", secret := "hf_" + "w" * 34)
    with pytest.raises(UserError, match="use a token that may") as caught:
        push_folder(tmp_path, "jan/new", private=False, message="m")
    assert secret not in str(caught.value)
    with pytest.raises(UserError, match="write repo=user/name"):
        check_target("streets")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(UserError, match="hf auth login"):
        check_target("jan/new")


def test_an_address_is_written_as_it_is_read() -> None:
    for text in ("hf://a/b", "hf://a/b@v1", "hf://a/b@refs/pr/3/x.ckpt", "hf://a/b/c/d.ckpt"):
        assert str(parse(text)) == text
    assert parse("hf://a/b@v1/x/") == HubAddress("a/b", "v1", "x")
    assert str(parse("https://h.org/x.ckpt?a=1&X-Signature=abc")) == "https://h.org/x.ckpt?a=1&X-Signature=..."
    assert local_path(os.fspath("a/b")) == Path("a/b")
