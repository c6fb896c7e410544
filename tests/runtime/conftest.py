"""The benches that the contract is tried on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cortex.runtime.world import World
from tests.runtime.benches import Bench, DockerBench, FakeBench


@pytest.fixture(params=["fake", "fake in a file", pytest.param("docker", marks=pytest.mark.docker)])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    models = tmp_path / "models"
    models.mkdir()
    made: Bench
    if request.param == "docker":
        made = DockerBench(models)
    else:
        made = FakeBench(models, World(tmp_path / "world.json") if "file" in request.param else World())
    try:
        yield made
    finally:
        made.clear()
