"""The real web process, a real browser, and a page that fails its test on any complaint of the browser."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from django.conf import settings
from playwright.sync_api import Browser, BrowserContext, Page

from cortex.access.models import Person, Role
from tests.browser.pages import watched
from tests.weights import LLAMA, put_gguf, put_safetensors
from tools import services

ROOT = Path(__file__).parent.parent.parent
STARTS_WITHIN = 30.0


class SlowTalker(BaseHTTPRequestHandler):
    """A gateway that answers every chat with the same words, one by one, until nobody listens."""

    asked: ClassVar[list[dict[str, Any]]] = []
    left: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append({"key": self.headers["Authorization"], **body})
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        words = ["Hello", " from", " a", " model", "."] * (100 if "long" in body["messages"][-1]["content"] else 1)
        try:
            for word in words:
                self._send({"choices": [{"delta": {"content": word}}]})
                time.sleep(0.02)
            self._send({"choices": [], "usage": {"completion_tokens": len(words)}})
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError as error:
            self.left.append(str(error))

    def _send(self, event: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Silence."""


@pytest.fixture(scope="session")
def gateway_url() -> Iterator[str]:
    """A stand-in for the gateway."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), SlowTalker)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def web_url(
    django_db_setup: None, postgres_url: str, redis_url: str, gateway_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The web process under gunicorn, on the tests' own database and broker."""
    port = services.free_port()
    url = f"http://127.0.0.1:{port}"
    name = settings.DATABASES["default"]["NAME"]
    environment = {
        **os.environ,
        "DATABASE_URL": postgres_url.replace("/postgres?", f"/{name}?"),
        "BROKER_URL": redis_url,
        "CORTEX_WEB_URL": url,
        "CORTEX_GATEWAY_INSIDE_URL": gateway_url,
        "CORTEX_RUNTIME": "pretend",
        "DJANGO_SETTINGS_MODULE": "cortex.settings",
    }
    command = [sys.executable, "-m", "gunicorn", "cortex.asgi:application", "-k", "asgi", "-b", f"127.0.0.1:{port}"]
    log = tmp_path_factory.mktemp("web") / "log"
    with log.open("wb") as sink:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=sink, stderr=sink)
    _wait(url, process, log)
    yield url
    process.terminate()
    process.wait(15)


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < until and process.poll() is None:
        try:
            urlopen(f"{url}/static/favicon.svg", timeout=2).close()
        except URLError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"The web process did not come up:\n{log.read_text()}")


@pytest.fixture
def context(browser: Browser, web_url: str, transactional_db: None) -> Iterator[BrowserContext]:
    """A fresh window, wide."""
    made = browser.new_context(base_url=web_url, viewport={"width": 1280, "height": 860})
    made.set_default_timeout(8000)
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page. Any error, warning or broken rule of the content policy that the browser tells fails the test."""
    with watched(context) as page:
        yield page


@pytest.fixture
def admin(transactional_db: None) -> Person:
    """An administrator whose password the pages know."""
    return Person.objects.create_user(username="alice", password="alice's password", role=Role.ADMIN)


@pytest.fixture
def weights(models_folder: Path) -> str:
    """Llama 3.1 8B in the models folder, as a GGUF file and as a folder of safetensors: its name."""
    put_gguf(models_folder)
    put_safetensors(models_folder, LLAMA)
    return LLAMA
