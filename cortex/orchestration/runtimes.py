"""This process's own host and the runtime that reaches its containers."""

from dataclasses import dataclass
from functools import cache

from django.conf import settings

from cortex.fleet.models import Host, Install
from cortex.runtime.contract import Runtime
from cortex.runtime.docker import DockerRuntime
from cortex.runtime.fake import FakeRuntime


@dataclass(frozen=True)
class Here:
    """A host and the runtime that reaches its containers: all that the loop acts through."""

    host: Host
    runtime: Runtime


@cache
def here() -> Here:
    """This process's own host; its row is made on first use."""
    host = Host.objects.get_or_create(name=settings.ENV.cortex_host_name)[0]
    return Here(host=host, runtime=_runtime())


def _runtime() -> Runtime:
    env = settings.ENV
    if settings.PRETEND:
        return FakeRuntime(install=Install.identity(), world=env.cortex_state / "pretend" / "world.json")
    return DockerRuntime(
        base_url=env.docker_host,
        install=Install.identity(),
        bind=env.cortex_engine_address,
        models=env.cortex_models_on_host or env.cortex_models,
    )
