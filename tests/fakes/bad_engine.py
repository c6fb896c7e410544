"""An engine that runs in a container of the tests and behaves as its flags say; those of real engines it ignores."""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MIB = 1 << 20
EAT = "import time; kept = bytearray(b'x') * (%d << 20); time.sleep(600)"

flags = argparse.ArgumentParser(allow_abbrev=False)
flags.add_argument("--port", type=int, default=8000)
flags.add_argument("--load-for", type=float, default=0.0, help="seconds of 503")
flags.add_argument("--end-with", type=int, help="an exit status, at once")
flags.add_argument("--end-after", type=float, default=0.0, help="seconds")
flags.add_argument("--say", default="", help="a last line of the log before it ends")
flags.add_argument("--ignore-term", action="store_true")
flags.add_argument("--hang", action="store_true", help="requests are taken, and never answered")
flags.add_argument("--slow", type=float, default=0.0, help="seconds until the first token; the log goes on meanwhile")
flags.add_argument("--health", choices=["ok", "dribble", "flood", "redirect"], default="ok")
flags.add_argument("--eat", type=int, help="MiB that the engine takes, once told by USR1")
flags.add_argument("--child-eats", type=int, help="MiB that a child of it takes, once told by USR1")
given, _ = flags.parse_known_args()
began = time.monotonic()


def say(line: str) -> None:
    print(line, flush=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        if self.path == "/metrics":
            self.compute()
        loading = time.monotonic() - began < given.load_for
        if given.health == "ok" or loading:
            self.answer(503 if loading else 200, {"status": "loading" if loading else "ok"})
        else:
            getattr(self, given.health)()
        self.close_connection = True

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.compute()
        choice = {"index": 0, "text": "a", "message": {"role": "assistant", "content": "a"}, "finish_reason": "length"}
        self.answer(200, {"id": "1", "object": "text_completion", "choices": [choice]})

    def compute(self) -> None:
        while given.hang:
            time.sleep(1)
        until = time.monotonic() + given.slow
        while time.monotonic() < until:
            say("prompt processing progress")
            time.sleep(0.2)

    def answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def dribble(self) -> None:
        """One byte a second, of a status line without end."""
        for byte in b"HTTP/1.1 200 " + b"O" * 600:
            self.wfile.write(bytes([byte]))
            time.sleep(1)

    def flood(self) -> None:
        """A body of 1 GiB."""
        self.send_response(200)
        self.send_header("Content-Length", str(1024 * MIB))
        self.end_headers()
        for _ in range(1024):
            self.wfile.write(b"x" * MIB)

    def redirect(self) -> None:
        """Elsewhere: to ourselves, where the answer would be 200."""
        self.send_response(307)
        self.send_header("Location", f"http://127.0.0.1:{given.port}/v1/models")
        self.end_headers()


def lose_a_child() -> None:
    """As engines of several processes do: when one of them dies, the others end."""
    subprocess.run([sys.executable, "-c", EAT % given.child_eats], check=False)
    say("a worker died")
    os._exit(1)


def eat(*_: object) -> None:
    if given.child_eats:
        threading.Thread(target=lose_a_child).start()
    if given.eat:
        threading.Thread(target=exec, args=(EAT % given.eat,)).start()


signal.signal(signal.SIGUSR1, eat)
signal.signal(signal.SIGTERM, signal.SIG_IGN if given.ignore_term else lambda *_: os._exit(0))
say("the engine begins")
if given.end_with is not None:
    time.sleep(given.end_after)
    say(given.say)
    sys.exit(given.end_with)
ThreadingHTTPServer(("", given.port), Handler).serve_forever()
