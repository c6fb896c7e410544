"""Containers on a Docker Engine, by the SDK's low-level API: the only module that imports the SDK."""

import json
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import requests
import urllib3
from docker import APIClient
from docker.auth import get_config_header, resolve_repository_name
from docker.errors import APIError, DockerException, create_api_error_from_http_exception
from docker.types import CancellableStream
from docker.utils import parse_repository_tag

from cortex.runtime import answers, payload
from cortex.runtime.contract import (
    Container,
    Effort,
    Event,
    Health,
    HostFacts,
    Label,
    LogLine,
    NotFound,
    NotOurs,
    PullProgress,
    Runtime,
    RuntimeFault,
    Stream,
    Unreachable,
)
from cortex.runtime.probe import ask, ask_all
from cortex.runtime.streams import EventStream, HttpWire, LogStream, Silence
from engines.contract import ContainerSpec, Probe

CONNECT = 5.0
CHECK = "Check that the Docker service runs."
REMEDIES: dict[type[Exception], str] = {
    PermissionError: "This user may not talk to Docker: add it to the group docker.",
    FileNotFoundError: "Install Docker, start it, or correct the address of its socket.",
}


class DockerRuntime(Runtime):
    """The containers that bear ``install`` on the engine at ``base_url``. Safe to share between threads.

    ``models`` is the one folder that may be mounted, ``bind`` the host address that ports are published on.
    Seconds: ``timeout`` for a plain call, ``silence`` for a stream that says nothing, ``window`` for one
    watch of events.
    """

    def __init__(
        self,
        base_url: str,
        install: str,
        models: Path,
        *,
        bind: str = "127.0.0.1",
        timeout: float = 20.0,
        silence: float = 300.0,
        window: float = 60.0,
    ) -> None:
        self._base_url = base_url
        self._install = install
        self._models = models
        self._bind = bind
        self._timeout = timeout
        self._silence = silence
        self._window = window
        self._version: str | None = None
        self._mine = threading.local()
        self._known: dict[str, answers.Look] = {}

    def facts(self) -> HostFacts:
        with self._asking() as client:
            told = client.info()
        return HostFacts(
            name=told["Name"],
            identity=told["ID"],
            cores=told["NCPU"],
            memory=told["MemTotal"],
            version=told["ServerVersion"],
        )

    def find(self) -> list[Container]:
        with self._asking() as client:
            rows = client.containers(all=True, filters={"label": self._own_label})
            looks = [self._remembered(row) or self._look_once(client, row["Id"]) for row in rows]
        self._known = {look.container.id: look for look in looks if look and look.run}
        return [look.container for look in looks if look]

    def _remembered(self, row: Mapping[str, Any]) -> answers.Look | None:
        """What inspecting it told, while the listing shows the same run of it."""
        known = self._known.get(row["Id"])
        return known if known and known.run == answers.run(row["State"], row["Names"], row) else None

    def _look_once(self, client: APIClient, id: str) -> answers.Look | None:
        told = self._look(client, id)
        if told is None:
            return None
        return answers.Look(answers.container(told), answers.run(told["State"]["Status"], [told["Name"]], told))

    def inspect(self, name: str) -> Container | None:
        with self._asking() as client:
            found = self._look(client, name)
        # Docker also answers to the beginning of an id.
        if found is None or name not in (found["Id"], found["Name"].removeprefix("/")):
            return None
        return answers.container(found)

    def create(self, name: str, spec: ContainerSpec, labels: Mapping[Label, str]) -> str:
        marked = {**labels, Label.INSTALL: self._install}
        body = payload.creation(spec, marked, models=self._models, bind=self._bind)
        with self._asking() as client:
            made = client.create_container_from_config(body, name)  # type: ignore[no-untyped-call]
        return str(made["Id"])

    def start(self, container_id: str) -> None:
        with self._touching(container_id) as client:
            client.start(container_id)

    def stop(self, container_id: str, grace: float) -> None:
        with suppress(NotFound), self._touching(container_id) as client:
            client.stop(container_id, timeout=math.ceil(grace))

    def kill(self, container_id: str) -> None:
        with suppress(NotFound), self._touching(container_id) as client, _conflict_is_done():
            client.kill(container_id)

    def remove(self, container_id: str) -> None:
        with suppress(NotFound), self._touching(container_id) as client, _conflict_is_done():
            client.remove_container(container_id, v=True, force=True)

    def logs(
        self, container_id: str, *, since: int | None = None, tail: int | None = None, follow: bool = False
    ) -> Stream[LogLine]:
        with self._touching(container_id):
            pass

        def wire(after: int | None) -> HttpWire:
            params: dict[str, object] = {"stdout": 1, "stderr": 1, "timestamps": 1, "follow": int(follow)}
            params["tail"] = "all" if tail is None else tail
            if after is not None:
                params["since"] = f"{after // 10**9}.{after % 10**9:09d}"
            patience = self._silence if follow else self._timeout
            return self._open("GET", f"/containers/{container_id}/logs", params, patience)

        return LogStream(wire, since, follow)

    def effort(self, container_id: str) -> Effort:
        with self._touching(container_id) as client:
            at_once = True if client.api_version != answers.OLDEST_API else None  # 1.40 takes a second to answer
            told = client.stats(container_id, stream=False, one_shot=at_once)
        return answers.effort(told)

    def events(self) -> Stream[Event]:
        filters = {"type": ["container"], "label": [self._own_label]}
        now = time.time()
        # Without "since", an "until" replays everything that the engine remembers.
        params = {"filters": json.dumps(filters), "since": f"{now:.9f}", "until": int(now + self._window)}
        return EventStream(self._open("GET", "/events", params, self._window + self._timeout))

    def has_image(self, image: str) -> bool:
        try:
            with self._asking() as client:
                client.inspect_image(image)  # type: ignore[no-untyped-call]
        except RuntimeFault as fault:
            if isinstance(fault.__cause__, APIError) and fault.__cause__.status_code == 404:
                return False
            raise
        return True

    def pull(self, image: str, on_progress: Callable[[PullProgress], None]) -> None:
        layers = answers.Layers()
        wire = self._open_pull(image)
        try:
            for line in wire.lines():
                message = json.loads(line)
                if "error" in message:
                    raise answers.pull_fault(image, str(message["error"]))
                if layers.heard(message):
                    on_progress(layers.progress())
        except Silence as silence:
            raise Unreachable(f"The image {image} stopped arriving.", "It is tried again.") from silence
        finally:
            wire.close()

    def probe(self, container: Container, probe: Probe) -> Health:
        return ask(container.address, probe)

    def probe_all(self, asked: Sequence[tuple[Container, Probe]]) -> list[Health]:
        return ask_all([(container.address, probe) for container, probe in asked])

    @property
    def _own_label(self) -> str:
        return f"{Label.INSTALL}={self._install}"

    def _look(self, client: APIClient, name: str) -> Mapping[str, Any] | None:
        try:
            found: Mapping[str, Any] = client.inspect_container(name)
        except APIError as fault:
            if fault.status_code == 404:
                return None
            raise
        return found

    @contextmanager
    def _asking(self) -> Iterator[APIClient]:
        """This thread's client; what goes wrong with it is told as a fault of the contract."""
        with self._telling():
            _knock(self._base_url)
            if not hasattr(self._mine, "client"):
                self._mine.client = self._connect()
            yield self._mine.client

    @contextmanager
    def _touching(self, container_id: str) -> Iterator[APIClient]:
        """The same, once the container is known to be ours. Raises NotFound, NotOurs."""
        with self._asking() as client:
            labels = client.inspect_container(container_id)["Config"]["Labels"] or {}
            if labels.get(Label.INSTALL) != self._install:
                raise NotOurs(
                    f"Container {container_id[:12]} does not belong to this install.",
                    "It is left alone; remove it by hand if it is in the way.",
                )
            yield client

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except APIError as fault:
            raise answers.fault(fault.status_code or 500, str(fault.explanation or fault)) from fault
        except (requests.RequestException, urllib3.exceptions.HTTPError, DockerException, OSError) as cut:
            # A restarted engine may be another version.
            self._version = None
            raise Unreachable(
                f"Docker at {self._base_url} does not answer: {cut}.", REMEDIES.get(type(cut), CHECK)
            ) from cut

    def _connect(self) -> APIClient:
        if self._version is None:
            self._version = self._negotiate()
        return self._client(self._version)

    def _client(self, version: str) -> APIClient:
        client = APIClient(base_url=self._base_url, version=version, timeout=self._timeout)  # type: ignore[arg-type]
        client.trust_env = False
        # Kept connections would pile up with the threads that come and go.
        client.headers["Connection"] = "close"
        return client

    def _negotiate(self) -> str:
        """The newest API that both sides know; the SDK alone would take whatever the engine offers."""
        client = self._client(answers.OLDEST_API)
        try:
            return answers.api_version(client.version(api_version=False))
        finally:
            client.close()

    def _open_pull(self, image: str) -> HttpWire:
        repository, tag = parse_repository_tag(image)
        headers = {}
        with self._asking() as client:
            credentials = get_config_header(client, resolve_repository_name(repository)[0])
        if credentials:
            headers["X-Registry-Auth"] = credentials.decode()
        params = {"fromImage": repository, "tag": tag or "latest"}
        try:
            return self._open("POST", "/images/create", params, self._silence, headers)
        except RuntimeFault as fault:
            if isinstance(fault.__cause__, APIError):
                raise answers.pull_fault(image, str(fault.__cause__.explanation)) from fault
            raise

    def _open(
        self,
        method: str,
        path: str,
        params: Mapping[str, object],
        patience: float,
        headers: Mapping[str, str] | None = None,
    ) -> HttpWire:
        """A streamed answer on a connection of its own, waiting ``patience`` seconds for each piece.

        The SDK's own streams wait for ever, and take a cut for an end.
        """
        with self._telling():
            _knock(self._base_url)
            client = self._connect()
            response = client.request(
                method,
                f"{client.base_url}/v{client.api_version}{path}",
                params=params,  # type: ignore[arg-type]
                headers=headers,
                stream=True,
                timeout=(CONNECT, patience),
            )
            try:
                response.raise_for_status()
            except requests.HTTPError as refused:
                create_api_error_from_http_exception(refused)
        return HttpWire(response, lambda: _hang_up(client, response))


@contextmanager
def _conflict_is_done() -> Iterator[None]:
    """409 from kill or remove: not running any more, or on its way out already."""
    try:
        yield
    except APIError as fault:
        if fault.status_code != 409:
            raise


def _knock(base_url: str) -> None:
    """Try the socket first: the SDK leaves it open when it cannot connect, and hides why. Raises OSError."""
    if base_url.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(CONNECT)
            door.connect(base_url.removeprefix("unix://"))


def _hang_up(client: APIClient, response: requests.Response) -> None:
    """Shut the socket, so that a read which waits in another thread ends at once."""
    with suppress(OSError, AttributeError, UnboundLocalError):
        CancellableStream(iter(()), response).close()
    client.close()
