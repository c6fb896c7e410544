"""This process's own host and the runtime that reaches its containers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from django.conf import settings

from cortex.fleet.models import Host, Install
from cortex.runtime import gpus
from cortex.runtime.contract import Runtime
from cortex.runtime.docker import DockerRuntime
from cortex.runtime.fake import FakeRuntime
from cortex.runtime.gpus import Gpus
from cortex.runtime.world import World


@dataclass(frozen=True)
class Here:
    """A host, the runtime that reaches its containers and the eyes on its cards: all that the loop acts through."""

    host: Host
    runtime: Runtime
    cards: Callable[[], Gpus]


@cache
def here() -> Here:
    """This process's own host; its row is made on first use."""
    env = settings.ENV
    host = Host.objects.get_or_create(name=env.cortex_host_name)[0]
    models = (env.cortex_models_on_host or env.cortex_models).resolve()
    if settings.PRETEND:
        world = World(env.cortex_state / "pretend.json")
        return Here(host, FakeRuntime(world, Install.identity(), models), world.gpus)
    runtime = DockerRuntime(env.docker_host, Install.identity(), models, bind=env.cortex_engine_address)
    return Here(host, runtime, gpus.Sampler().read)
