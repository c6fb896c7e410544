"""What replicas are promised: the estimate, an engine's budget, or an honest guess; corrected by what starts took."""

from pathlib import Path
from typing import Any

import pytest

from cortex.catalog.definition import describe
from cortex.catalog.models import Model
from cortex.fleet.models import Gpu, Measurement, Replica
from cortex.fleet.states import Observed
from cortex.orchestration import forecasts, hosts, needs, orders, seats
from cortex.orchestration.measure import measure
from cortex.orchestration.settle import settle
from cortex.runtime.scene import ImaginaryGpu
from cortex.runtime.world import World
from cortex.ui import measured
from tests.orchestration.conftest import GIB, Loop, Time
from tests.weights import put_gguf, put_safetensors

MIB = 1 << 20

pytestmark = pytest.mark.django_db


def define(name: str, engine: str, path: str, **more: Any) -> Replica:
    data = {"name": name, "engine": engine, "source": {"path": path}, "desired": "running", **more}
    model, _ = orders.define(data, None)
    settle(model.id)
    return Replica.objects.select_related("model", "host").get(model=model)


def test_an_engine_that_fills_a_budget_is_promised_all_of_it(loop: Loop, models_folder: Path) -> None:
    loop.card()
    replica = define("one", "vllm", put_safetensors(models_folder), context=4096)
    assert seats.take(replica, 1) == ("GPU-0",)
    assert replica.seats.get().bytes == pytest.approx(0.9 * 48 * GIB, abs=1)


def test_two_that_fill_nine_tenths_of_one_card_are_refused_with_words(loop: Loop, models_folder: Path) -> None:
    loop.card()
    path = put_safetensors(models_folder)
    first = define("one", "vllm", path, context=4096)
    seats.take(first, 1)
    second = define("two", "vllm", path, context=4096)
    assert second.reason.startswith("Waits for room. It claims 90% of 1 GPU, and needs at least")
    assert "its part would be 43.2 GiB: one/0 holds 43.2 GiB" in second.reason
    second.host = first.host
    second.save(update_fields=["host"])
    with pytest.raises(seats.NoSeat, match="It would fit if one/0 stopped"):
        seats.take(second, 1)


def test_uneven_needs_are_promised_card_by_card(loop: Loop, models_folder: Path) -> None:
    for index in range(2):
        loop.card(f"GPU-{index}", total=24 * GIB, index=index)
    path = put_gguf(models_folder)
    replica = define("one", "llamacpp", path, gpus=2, context=4096, users=1, options={"tensor_split": [3, 1]})
    assert seats.take(replica, 1) == ("GPU-0", "GPU-1")
    first, second = replica.seats.order_by("gpu__index").values_list("bytes", flat=True)
    assert first > 2 * second > 2 * GIB


def test_a_need_that_nobody_can_tell_falls_back_on_the_weights_and_says_so(loop: Loop, models_folder: Path) -> None:
    loop.card()
    replica = define("one", "llamacpp", put_gguf(models_folder))
    (models_folder / "llama-3.1-8b.gguf").write_bytes(b"GGUF, or so it says")
    assert seats.need(replica, 10 * GIB).bytes == 12 * GIB
    note = str(needs.told(replica, 10 * GIB, 1)["note"])
    assert note.startswith("Its need was not estimated, so 1.2 times its weights are reserved. llama-3.1-8b.gguf")


@pytest.fixture
def ready(loop: Loop, world: World, time: Time, models_folder: Path) -> Replica:
    """Llama 3.1 8B that serves on one card, whose log says what it took."""
    loop.card(seen_at=time.now())
    world.add_gpus(ImaginaryGpu(uuid="GPU-0", name="L40S", total=48 * GIB))
    define("one", "llamacpp", put_gguf(models_folder), context=8192, users=1)
    replica = loop.look("one")
    world.write(
        replica.container_name,
        "load_tensors:        CUDA0 model buffer size =  4403.49 MiB",
        "llama_kv_cache:      CUDA0 KV buffer size =  1024.00 MiB",
        "sched_reserve:      CUDA0 compute buffer size =   300.00 MiB",
    )
    for _ in range(5):
        time.pass_(30)
        replica = loop.look("one")
    assert replica.observed == Observed.READY
    return replica


def sampled(loop: Loop, used: int) -> None:
    hosts.sample(loop.here, loop.here.cards())
    Gpu.objects.update(used=used)


def test_what_a_start_took_is_kept_once_a_sample_shows_it(ready: Replica, loop: Loop, time: Time) -> None:
    measure(loop.here)
    assert not Measurement.objects.exists(), "the cards were not looked at since"
    time.pass_(5)
    sampled(loop, 6100 * MIB)
    measure(loop.here)
    measure(loop.here)
    row = Measurement.objects.get()
    assert row.attempt == ready.attempts.get()
    assert row.terms == {"weights": int(4403.49 * MIB), "kv_cache": 1024 * MIB, "compute": 300 * MIB}
    assert (row.card, row.gpus, row.devices) == ("L40S", 1, [6100 * MIB])
    assert row.estimated == row.attempt.estimated["cards"]


def test_the_next_estimate_follows_what_was_measured_and_says_so(ready: Replica, loop: Loop, time: Time) -> None:
    definition = describe(ready.model)
    before = forecasts.of(definition, ready.model)
    time.pass_(5)
    sampled(loop, 6100 * MIB)
    measure(loop.here)
    after = forecasts.of(definition, ready.model)
    assert before.past is None
    assert after.past
    assert any("earlier start" in words for words in after.assumptions)
    need = after.cards[0].need
    assert need
    assert need.likely == pytest.approx(6100 * MIB, rel=0.001)
    [compute] = [term for term in need.terms if term.name == "compute"]
    assert compute.likely == 300 * MIB
    longer = definition.model_copy(update={"context": 16384})
    doubled = forecasts.of(longer, ready.model).cards[0].need
    assert doubled
    assert 1024 * MIB <= doubled.likely - need.likely < 1400 * MIB, "only what grows with the context grows"


def test_the_page_shows_what_was_expected_beside_what_was_measured(ready: Replica, loop: Loop, time: Time) -> None:
    time.pass_(5)
    sampled(loop, 6100 * MIB)
    measure(loop.here)
    shown = measured.beside(Model.objects.get(), ready.attempts.get())
    lines = {line.name: line for line in shown.lines}
    assert lines["kv_cache"].off == "0.0 %"
    assert lines["whole card"].measured == 6100 * MIB
    assert [start.card for start in shown.history] == ["L40S"]
