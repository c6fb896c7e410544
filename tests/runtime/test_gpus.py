import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cortex.runtime import gpus
from cortex.runtime.gpus import Gpu, Process, Sampler, read

SOURCE = Path(__file__).parents[1] / "fakes" / "nvml.c"
Scenario = Callable[..., None]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nvml")
    command = ["gcc", "-shared", "-fPIC", "-o", str(folder / "libnvidia-ml.so.1"), str(SOURCE)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture
def scenario(library: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scenario]:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library))

    def play(**settings: object) -> None:
        for name, value in settings.items():
            monkeypatch.setenv(f"NVML_{name}", str(value))

    yield play
    for child in gpus._stuck:
        child.wait(5)
    gpus._stuck.clear()


def test_cards_are_told_in_bytes_percent_degrees_and_watts(scenario: Scenario) -> None:
    found = read()
    assert (found.driver, found.condition, len(found.cards)) == ("570.00", "", 2)
    assert found.cards[0] == Gpu(
        uuid="GPU-00000000-0000-0000-0000-000000000000",
        index=0,
        name="NVIDIA Imaginary 24GB",
        total=24 * 2**30,
        used=2**30,
        utilisation=37,
        temperature=61,
        power=215.5,
        processes=(Process(pid=4242, memory=2**30),),
    )
    assert found.cards[1].processes == ()


def test_a_machine_without_a_driver_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    (tmp_path / "libnvidia-ml.so.1").write_text("not a library")
    found = read()
    assert found.cards == ()
    assert "libnvidia-ml.so.1 is missing" in found.condition


@pytest.mark.parametrize(
    ("code", "says"),
    [(9, "not loaded"), (18, "updated while it ran"), (15, "fallen off the bus"), (999, "Unknown Error")],
)
def test_what_is_wrong_with_the_driver_is_said_in_words(scenario: Scenario, code: int, says: str) -> None:
    scenario(FAIL=f"Init:{code}")
    found = read()
    assert found.cards == ()
    assert says in found.condition


def test_a_lost_card_does_not_hide_the_others(scenario: Scenario) -> None:
    scenario(FAIL="Memory:15", FAIL_CARD=0)
    found = read()
    assert [card.index for card in found.cards] == [1]
    assert found.condition.startswith("GPU 0:")


@pytest.mark.parametrize("function", ["Utilisation", "Temperature", "Power", "Processes"])
def test_what_a_card_cannot_tell_is_left_open(scenario: Scenario, function: str) -> None:
    scenario(FAIL=f"{function}:3")
    card = read().cards[0]
    told = [card.utilisation, card.temperature, card.power, card.processes or None]
    assert told.count(None) == 1
    assert card.total == 24 * 2**30


def test_a_driver_that_sees_no_card_says_so(scenario: Scenario) -> None:
    scenario(CARDS=0)
    assert "no GPU" in read().condition


def test_a_hung_driver_costs_the_timeout_once(scenario: Scenario) -> None:
    scenario(HANG="Memory")
    before = time.monotonic()
    found = read(timeout=1)
    assert time.monotonic() - before < 3
    assert "does not answer" in found.condition
    assert found.cards == ()


def test_while_one_question_hangs_no_second_is_asked(scenario: Scenario) -> None:
    with subprocess.Popen(["sleep", "60"]) as stuck:
        gpus._stuck.append(stuck)
        before = time.monotonic()
        assert "does not answer" in read().condition
        assert time.monotonic() - before < 0.1
        stuck.kill()


def test_sample_after_sample_is_asked_by_one_process(scenario: Scenario) -> None:
    scenario()
    sampler = Sampler()
    first = sampler.read()
    assert len(first.cards) == 2
    child = sampler._child
    assert [sampler.read(), sampler.read()] == [first, first]
    assert sampler._child is child
    sampler.close()
    assert child is not None
    assert child.returncode is not None


def test_after_a_fault_a_fresh_process_asks_a_fresh_library(scenario: Scenario) -> None:
    scenario(FAIL="Init:18")
    sampler = Sampler()
    assert "updated while it ran" in sampler.read().condition
    scenario(FAIL="")
    assert len(sampler.read().cards) == 2
    sampler.close()


def test_a_process_that_was_killed_between_samples_costs_one_sample(scenario: Scenario) -> None:
    scenario()
    sampler = Sampler()
    sampler.read()
    assert sampler._child is not None
    sampler._child.kill()
    sampler._child.wait()
    assert "ended with status -9" in sampler.read().condition
    assert len(sampler.read().cards) == 2
    sampler.close()
