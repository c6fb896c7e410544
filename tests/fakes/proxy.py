"""A man in the middle before Docker's socket: it loses answers, cuts them, or says nothing, on order."""

import socket
import threading
from contextlib import suppress
from pathlib import Path

UPSTREAM = "/var/run/docker.sock"


class DockerProxy:
    """Passes each request on, except as ordered for those whose first line holds a word.

    ``lose``: the request is carried out, its answer dropped. ``cut``: the answer ends after so many bytes.
    ``hold``: nothing is passed on, and nothing ever answered; with ``only``, for those that hold one of these words
    too. ``heard`` are the first lines of all requests.
    """

    def __init__(self, path: Path) -> None:
        self.url = f"unix://{path}"
        self.lose = ""
        self.hold = ""
        self.only: tuple[str, ...] = ("",)
        self.cut: tuple[str, int] = ("", 0)
        self.heard: list[str] = []
        self._open: list[socket.socket] = []
        self._asked: list[tuple[str, socket.socket]] = []
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(str(path))
        self._door.listen(64)
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def hang_up(self, word: str) -> None:
        """End the requests under way whose first line holds a word."""
        for line, client in self._asked:
            if word in line:
                _hang_up(client)

    def close(self) -> None:
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        for connection in self._open:
            _hang_up(connection)
        for thread in self._threads:
            thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._door.accept()
            except OSError:
                return
            self._open.append(client)
            thread = threading.Thread(target=self._pass, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _pass(self, client: socket.socket) -> None:
        request = client.recv(1 << 16)
        line = request.partition(b"\r\n")[0].decode()
        self.heard.append(line)
        self._asked.append((line, client))
        if not request or (self.hold and self.hold in line and any(word in line for word in self.only)):
            return
        with socket.socket(socket.AF_UNIX) as engine:
            self._open.append(engine)
            engine.connect(UPSTREAM)
            engine.sendall(request)
            threading.Thread(target=_pump, args=(client, engine), daemon=True).start()
            if self.lose and self.lose in line:
                engine.recv(1 << 16)
            else:
                _pump(engine, client, self.cut[1] if self.cut[0] and self.cut[0] in line else None)
            _hang_up(client)


def _pump(source: socket.socket, target: socket.socket, limit: int | None = None) -> None:
    passed = 0
    try:
        while piece := source.recv(1 << 16):
            target.sendall(piece if limit is None else piece[: limit - passed])
            passed += len(piece)
            if limit is not None and passed >= limit:
                return
    except OSError:
        return


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
