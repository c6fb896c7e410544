"""What a pull may meet, from a registry on loopback: told apart, tried again where that helps, cancelled."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cortex.runtime.contract import ImageRefused, PullProgress, RuntimeFault, Unreachable
from cortex.runtime.docker import DockerRuntime
from tests.fakes.registry import FakeRegistry, Fault, registry
from tests.faults.record import Record
from tests.runtime.benches import SOCKET

pytestmark = [pytest.mark.docker, pytest.mark.timeout(200)]


class Enough(Exception):
    """Nobody wants it any more."""


@pytest.fixture
def shop() -> Iterator[FakeRegistry]:
    with registry() as shop:
        yield shop
        subprocess.run(["docker", "rmi", "-f", shop.image], capture_output=True, check=False)


@pytest.fixture
def runtime(tmp_path: Path) -> DockerRuntime:
    return DockerRuntime(SOCKET, "pulls", tmp_path, silence=3)


def ignore(_: PullProgress) -> None:
    """For those who do not care how far it is."""


@pytest.mark.fault(41)
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("unauthorized", ImageRefused),
        ("missing", ImageRefused),
        ("throttled", Unreachable),
        ("broken", Unreachable),
        ("digest", Unreachable),
        ("hang", Unreachable),
    ],
)
def test_a_pull_that_fails_says_how_and_works_when_the_cause_is_gone(
    shop: FakeRegistry, runtime: DockerRuntime, record: Record, fault: Fault, kind: type[RuntimeFault]
) -> None:
    shop.fault = fault
    with pytest.raises(kind) as caught:
        runtime.pull(shop.image, ignore)
    assert caught.value.permanent is (kind is ImageRefused)
    assert not runtime.has_image(shop.image)
    shop.over.set()
    shop.fault = ""
    began = time.monotonic()
    runtime.pull(shop.image, ignore)
    assert runtime.has_image(shop.image)
    record.took(time.monotonic() - began, 1)
    record.saw(f"{fault}: {type(caught.value).__name__}, “{str(caught.value)[:160]}”")
    record.checked([])


@pytest.mark.fault(41)
def test_a_layer_that_is_cut_is_resumed(shop: FakeRegistry, runtime: DockerRuntime, record: Record) -> None:
    shop.fault = "cut"
    began = time.monotonic()
    seen: list[PullProgress] = []
    DockerRuntime(SOCKET, "pulls", runtime._models, silence=60).pull(shop.image, seen.append)
    assert runtime.has_image(shop.image)
    assert [told.done for told in seen] == sorted(told.done for told in seen)
    record.took(time.monotonic() - began, 1)
    record.saw(f"Cut in the middle of a layer: the engine itself went on, with {shop.ranges or 'a new download'}.")
    record.checked([])


@pytest.mark.fault(41)
def test_a_pull_that_nobody_wants_any_more_ends(shop: FakeRegistry, runtime: DockerRuntime, record: Record) -> None:
    shop.fault = "hang"

    def enough(_: PullProgress) -> None:
        raise Enough

    began = time.monotonic()
    with pytest.raises(Enough):
        runtime.pull(shop.image, enough)
    took = time.monotonic() - began
    assert took < 10
    assert not runtime.has_image(shop.image)
    record.took(took, 1)
    record.saw(f"Cancelled in the middle of a layer: over within {took:.1f} s, and no image is left.")
    record.checked([])
