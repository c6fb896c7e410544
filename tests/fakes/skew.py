"""The engine of this machine as if it were another version: it says so, and takes the paths of that version."""

import re
import socket
import threading

from tests.fakes.proxy import UPSTREAM, DockerProxy, _hang_up, _pump

VERSION = re.compile(rb" /v[0-9.]+/")
SPOKEN = b" /v1.41/"


class SkewedDocker(DockerProxy):
    """`newest` and `oldest` are the APIs that it says it speaks; none is the truth. `heard` are the paths asked for."""

    newest = oldest = ""

    def _pass(self, client: socket.socket) -> None:
        request = client.recv(1 << 16)
        line, _, rest = request.partition(b"\r\n")
        if not request:
            return
        self.heard.append(line.decode())
        with socket.socket(socket.AF_UNIX) as engine:
            self._open.append(engine)
            engine.connect(UPSTREAM)
            engine.sendall(VERSION.sub(SPOKEN, line) + b"\r\n" + rest)
            threading.Thread(target=_pump, args=(client, engine), daemon=True).start()
            if b"/version " in line and self.newest:
                client.sendall(self._pretended(engine))
            else:
                _pump(engine, client)
            _hang_up(client)

    def _pretended(self, engine: socket.socket) -> bytes:
        answer = b""
        while piece := engine.recv(1 << 16):
            answer += piece
        answer = re.sub(rb'"ApiVersion":"[0-9.]+"', b'"ApiVersion":"%s"' % self.newest.encode(), answer)
        return re.sub(rb'"MinAPIVersion":"[0-9.]+"', b'"MinAPIVersion":"%s"' % self.oldest.encode(), answer)
