"""This process's own host and the runtime that reaches its containers."""

from functools import cache

from django.conf import settings

from cortex.fleet.models import Host, Install
from cortex.runtime.contract import Runtime
from cortex.runtime.docker import DockerRuntime
from cortex.runtime.fake import FakeRuntime


@cache
def local() -> Runtime:
    """The runtime of this host: real, or pretended when the settings say so."""
    env = settings.ENV
    if settings.PRETEND:
        return FakeRuntime(install=Install.identity(), world=env.cortex_state / "pretend" / "world.json")
    return DockerRuntime(
        base_url=env.docker_host,
        install=Install.identity(),
        address=env.cortex_engine_address,
        models=env.cortex_models_on_host or env.cortex_models,
    )


def local_host() -> Host:
    """The row of this host, made on first use."""
    return Host.objects.get_or_create(name=settings.ENV.cortex_host_name)[0]
