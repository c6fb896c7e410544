"""A small Hugging Face hub on loopback: one repository, with cut connections and refusals on order."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "a" * 40


class FakeHub:
    """Serves ``files`` as owner/model. ``cut`` ends the next download of a file after so many bytes."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.cut: dict[str, int] = {}
        self.refuse: tuple[int, dict[str, str]] | None = None
        self.ranges: list[str] = []
        self.token: str | None = None
        self.url = ""


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no error here."""


@contextmanager
def hub(files: dict[str, bytes]) -> Iterator[FakeHub]:
    fake = FakeHub(files)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"fake": fake}))
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    fake: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.fake.token = self.headers.get("Authorization")
        path = self.path.partition("?")[0]
        if self.fake.refuse is not None:
            self._send(self.fake.refuse[0], b"{}", self.fake.refuse[1])
        elif path.startswith("/owner/model/resolve/"):
            self._file(path.rpartition("/")[2])
        else:
            self._api(path)

    def _api(self, path: str) -> None:
        if path == f"/api/models/owner/model/tree/{COMMIT}":
            self._json([_entry(name, data) for name, data in self.fake.files.items()])
        elif path == "/api/models/owner/model/revision/main":
            siblings = [{"rfilename": name, "size": len(data)} for name, data in self.fake.files.items()]
            self._json({"id": "owner/model", "sha": COMMIT, "siblings": siblings})
        else:
            known = path.startswith("/api/models/owner/model/")
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound" if known else "RepoNotFound"})

    def _file(self, name: str) -> None:
        if name not in self.fake.files:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        data, start = self.fake.files[name], 0
        headers = {
            "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        wanted = self.headers.get("Range")
        if wanted and self.command == "GET":
            self.fake.ranges.append(wanted)
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        cut = self.fake.cut.pop(name, None) if self.command == "GET" else None
        self._send(206 if start else 200, data[start:], headers, cut)

    def _json(self, answer: Any) -> None:
        self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str], cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True


def _entry(name: str, data: bytes) -> dict[str, Any]:
    return {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
