"""A wire to a server's socket that can be slow: what it carries arrives `delay` seconds later."""

import contextlib
import select
import socket
import threading
import time
from pathlib import Path


class Wire:
    """Carries from the socket at `path` to that at `behind`, which may come and go."""

    def __init__(self, path: Path, behind: Path) -> None:
        self.delay = 0.0
        self._behind = behind
        self._ends: set[socket.socket] = set()
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(str(path))
        self._door.listen(128)
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        for end in (self._door, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        self._door.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                thread = threading.Thread(target=self._carry, args=self._door.accept()[:1])
                self._threads.append(thread)
                thread.start()

    def _carry(self, near: socket.socket) -> None:
        with near, socket.socket(socket.AF_UNIX) as far, contextlib.suppress(OSError):
            far.connect(str(self._behind))
            self._ends |= {near, far}
            while self._pass(near, far):
                pass
        self._ends -= {near, far}

    def _pass(self, near: socket.socket, far: socket.socket) -> bool:
        for source in select.select([near, far], [], [])[0]:
            data = source.recv(1 << 16)
            time.sleep(self.delay)
            if not data:
                return False
            (far if source is near else near).sendall(data)
        return True
