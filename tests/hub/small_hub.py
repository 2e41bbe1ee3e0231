"""A model hub on 127.0.0.1 with the addresses that huggingface_hub asks, and the faults that tests want of it."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = ["TOKEN", "SmallHub", "small_hub"]

TOKEN = "hf_" + "S" * 34  # that may write


class SmallHub(ThreadingHTTPServer):
    """Repositories in memory.

    Attributes:
        commits: repository -> commits in their order, each its hash and its files by name.
        private: repository -> what was asked for when it was made.
        requests: (method, path, headers) of all requests.
        faults: name of a fault -> its value; see ``_Handler``.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.commits: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.private: dict[str, bool] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.faults: dict[str, Any] = {}
        self.large: dict[str, bytes] = {}

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up in the middle is what some tests are about."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def commit(self, repo: str, files: dict[str, bytes]) -> str:
        """Adds files; returns the hash of the commit."""
        before = self.commits.setdefault(repo, [])
        content = {**(before[-1][1] if before else {}), **files}
        mark = hashlib.sha1(repr((repo, len(before), sorted(content.items()))).encode()).hexdigest()
        before.append((mark, content))
        return mark

    def asked(self, method: str, part: str) -> list[dict[str, str]]:
        """Headers of the requests whose path holds ``part``."""
        return [headers for verb, path, headers in self.requests if verb == method and part in path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: SmallHub

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    def _begin(self) -> str:
        self.server.requests.append((self.command, self.path, {key.lower(): v for key, v in self.headers.items()}))
        return unquote(urlsplit(self.path).path)

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, value: Any, status: int = 200) -> None:
        self._answer(status, json.dumps(value).encode(), Content_Type="application/json")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, faults = self._begin(), self.server.faults
        if status := faults.get("status"):
            self._answer(status)
        elif faults.get("login"):
            self._answer(200, b"<html>log in</html>", Content_Type="text/html")
        elif "/resolve/" in path:
            repo, _, rest = path[1:].partition("/resolve/")
            revision, _, name = rest.partition("/")
            self._file(repo, revision, name)
        elif "/tree/" in path:
            repo, _, revision = path.removeprefix("/api/models/").partition("/tree/")
            found = self._found(repo, revision)
            if found:
                self._json([{"type": "file", "path": n, "size": len(c), "oid": "0" * 40} for n, c in found[1].items()])
        else:
            self._answer(404)

    def _found(self, repo: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commits = self.server.commits.get(repo)
        if commits is None or (self.server.private.get(repo) and self.headers["Authorization"] != f"Bearer {TOKEN}"):
            self._answer(401, X_Error_Code="RepoNotFound")
            return None
        found = commits[-1] if revision == "main" else next((each for each in commits if each[0] == revision), None)
        if found is None:
            self._answer(404, X_Error_Code="RevisionNotFound")
        return found

    def _file(self, repo: str, revision: str, name: str) -> None:
        found = self._found(repo, revision)
        if found is None:
            return
        commit, files = found
        if name not in files:
            self._answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
            return
        faults, content = self.server.faults, files[name]
        tag = faults.get("etag", hashlib.sha256(content).hexdigest())
        headers = {"ETag": f'"{tag}"', "X_Repo_Commit": faults.get("commit", commit)}
        if there := faults.get("redirect"):
            self._answer(302, **headers, Location=there, X_Linked_Size=str(len(content)), X_Linked_ETag=f'"{tag}"')
            return
        self.serve(content, headers)

    def serve(self, content: bytes, headers: dict[str, str]) -> None:
        """A file, or the part of it that is asked for; faults: ``endless`` and ``break_after`` (bytes, once)."""
        faults, start, status = self.server.faults, 0, 200
        asked, known = self.headers["Range"], self.headers["If-Range"]
        if asked and known in (None, headers.get("ETag")):
            start, status = int(asked.removeprefix("bytes=").rstrip("-")), 206
            headers = {**headers, "Content_Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        if self.command == "GET" and faults.get("endless"):
            self.send_response(200)
            for key, value in {**headers, "Transfer_Encoding": "chunked"}.items():
                self.send_header(key.replace("_", "-"), value)
            self.end_headers()
            for _ in range(64):
                self.wfile.write(b"100000\r\n" + bytes(2**20) + b"\r\n")
            return
        part = content[start:]
        if self.command == "GET" and len(part) > faults.get("break_after", len(part)):
            after = faults.pop("break_after") if not faults.get("always") else faults["break_after"]
            self.send_response(status)
            for key, value in {**headers, "Content_Length": str(len(part))}.items():
                self.send_header(key.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(part[:after])
            self.close_connection = True
            return
        self._answer(status, part, **headers)

    def do_PUT(self) -> None:
        path = self._begin()
        self.server.large[path.removeprefix("/large/")] = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200)

    def do_POST(self) -> None:
        path, hub = self._begin(), self.server
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._answer(403, X_Error_Message=f"not with {self.headers['Authorization']}")
        elif path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked['organization']}/{asked['name']}"
            there = repo in hub.commits
            hub.commits.setdefault(repo, [])
            hub.private.setdefault(repo, asked.get("visibility") == "private" or asked.get("private") is True)
            self._json({"url": f"{hub.url}/{repo}"}, 409 if there else 200)
        elif "/preupload/" in path:
            names = [file["path"] for file in json.loads(body)["files"]]
            mode = {name: "lfs" if name.endswith(".safetensors") else "regular" for name in names}
            self._json({"files": [{"path": n, "uploadMode": m, "shouldIgnore": False} for n, m in mode.items()]})
        elif path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            actions = [{"upload": {"href": f"{hub.url}/large/{each['oid']}"}} for each in objects]
            objects = [{**each, "actions": action} for each, action in zip(objects, actions, strict=True)]
            self._json({"transfer": "basic", "objects": objects})
        elif "/commit/" in path:
            lines = [json.loads(line) for line in body.splitlines()]
            files = {}
            for value in (line["value"] for line in lines if line["key"] != "header"):
                text = value.get("content")
                files[value["path"]] = hub.large[value["oid"]] if text is None else base64.b64decode(text)
            repo = path.removeprefix("/api/models/").partition("/commit/")[0]
            mark = hub.commit(repo, files)
            self._json({"commitUrl": f"{hub.url}/{repo}/commit/{mark}", "commitOid": mark, "pullRequestUrl": None})
        else:
            self._answer(404)


@contextmanager
def small_hub() -> Iterator[SmallHub]:
    """A hub that runs in the block."""
    with SmallHub() as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
