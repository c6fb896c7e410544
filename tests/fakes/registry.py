"""A registry on loopback with one small image, and faults on order: what a pull may meet."""

import gzip
import hashlib
import io
import json
import tarfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
LAYER_BYTES = 3 << 20
REFUSED = {"missing": (404, "MANIFEST_UNKNOWN"), "throttled": (429, "TOOMANYREQUESTS"), "broken": (500, "UNKNOWN")}

Fault = Literal["", "unauthorized", "missing", "throttled", "broken", "cut", "hang", "digest"]


class FakeRegistry:
    """Serves `image`, anew for each registry. `fault` is what happens now; `ranges` are the resumed downloads."""

    def __init__(self) -> None:
        self.fault: Fault = ""
        self.ranges: list[str] = []
        self.over = threading.Event()
        self.image = ""
        name = uuid.uuid4().bytes * (LAYER_BYTES // 16)
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as archive:
            file = tarfile.TarInfo("data")
            file.size = len(name)
            archive.addfile(file, io.BytesIO(name))
        whole = content.getvalue()
        self.layer = gzip.compress(whole, 0)
        diff = f"sha256:{hashlib.sha256(whole).hexdigest()}"
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [diff]},
        }
        self.config = json.dumps(config).encode()
        parts = {"config": (CONFIG, self.config), "layer": (LAYER, self.layer)}
        described = {key: {"mediaType": kind, "size": len(b), "digest": digest(b)} for key, (kind, b) in parts.items()}
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described["config"]}
        self.manifest = json.dumps(manifest | {"layers": [described["layer"]]}).encode()
        self.blobs = {digest(self.config): self.config, digest(self.layer): self.layer}


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no error here."""


@contextmanager
def registry() -> Iterator[FakeRegistry]:
    fake = FakeRegistry()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"fake": fake}))
    fake.image = f"127.0.0.1:{server.server_port}/cortex-test/small:1"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield fake
    finally:
        fake.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    fake: FakeRegistry
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if self.fake.fault == "unauthorized":
            self._say(401, b"{}", **{"WWW-Authenticate": 'Basic realm="here"'})
        elif "/manifests/" in self.path:
            self._tell_manifest()
        elif "/blobs/" in self.path:
            self._tell_blob(self.fake.blobs[self.path.rpartition("/")[2]])
        else:
            self._say(200, b"{}")

    def _tell_manifest(self) -> None:
        if self.fake.fault in REFUSED:
            status, code = REFUSED[self.fake.fault]
            self._say(status, json.dumps({"errors": [{"code": code, "message": code.lower()}]}).encode())
        else:
            self._say(
                200,
                self.fake.manifest,
                **{"Content-Type": MANIFEST, "Docker-Content-Digest": digest(self.fake.manifest)},
            )

    def _tell_blob(self, blob: bytes) -> None:
        if blob == self.fake.config:
            self._say(200, blob)
            return
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if start:
            self.fake.ranges.append(self.headers["Range"])
        if self.fake.fault == "digest":
            blob = bytes(len(blob))
        ranged = {"Content-Range": f"bytes {start}-{len(blob) - 1}/{len(blob)}"} if start else {}
        self._head(206 if start else 200, len(blob) - start, ranged)
        if self.fake.fault in ("cut", "hang"):
            self.wfile.write(blob[start : start + len(blob) // 2])
            if self.fake.fault == "hang":
                self.fake.over.wait(60)
            self.fake.fault, self.close_connection = "", True
            return
        self.wfile.write(blob[start:])

    def _say(self, status: int, body: bytes, **headers: str) -> None:
        self._head(status, len(body), headers)
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: int, size: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.send_header("Content-Length", str(size))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
