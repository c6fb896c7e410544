"""A fleet as rows, for the doors' tests: a model that serves, one on its way, one that fails, one that rests."""

from datetime import timedelta
from typing import Any

from cortex.access.models import Person
from cortex.catalog.models import Desired, Model, Order
from cortex.fleet import clock
from cortex.fleet.models import Attempt, Gpu, Host, Replica, Seat, Stray
from cortex.fleet.states import Observed

GIB = 1024**3
LOG = """build: 5311 (a1b2c3d) with cc 12.2.0 for x86_64
main: loading model
llama_model_loader: loaded meta data with 26 key-value pairs and 291 tensors
load_tensors: offloading 80 layers to GPU
ggml_cuda_host_malloc: failed to allocate 41214.36 MiB of pinned memory: out of memory
ggml_backend_cuda_buffer_type_alloc_buffer: allocating 41214.36 MiB on device 0: cudaMalloc failed: out of memory
llama_model_load: error loading model: unable to allocate CUDA0 buffer
main: exiting due to model loading error"""


def host() -> Host:
    """A host with two cards."""
    made = Host.objects.create(
        name="atlas",
        cores=32,
        memory=128 * GIB,
        version="Docker Engine 27.3",
        seen_at=clock.now(),
        labels={"zone": "cellar"},
    )
    for index, (total, used, busy, warm) in enumerate([(48, 34, 71, 64), (48, 9, 4, 41)]):
        Gpu.objects.create(
            uuid=f"GPU-5f1c{index}a7e-90d2-4b1e-8c33-1f0a6b7d2e4{index}",
            host=made,
            index=index,
            name="NVIDIA L40S",
            total=total * GIB,
            used=used * GIB,
            utilisation=busy,
            temperature=warm,
            power=212.0 - 150 * index,
            seen_at=clock.now(),
        )
    return made


def model(name: str, **changes: Any) -> Model:
    """A definition."""
    row = {"engine": "llamacpp", "path": f"{name}.gguf", "context": 8192, "desired": Desired.RUNNING, **changes}
    return Model.objects.create(name=name, **row)


def replica(of: Model, on: Host, observed: Observed, reason: str, **more: Any) -> Replica:
    """A slot, with what the host shows of it."""
    at = clock.now() - timedelta(minutes=3)
    slot = of.replica_set.count()
    return Replica.objects.create(
        model=of, slot=slot, host=on, observed=observed, reason=reason, observed_at=at, turn=of.turn, **more
    )


def attempt(of: Replica, number: int, ago: timedelta, **more: Any) -> Attempt:
    """A start of a replica, begun some time ago."""
    row = {
        "turn": of.turn,
        "confirmed_turn": of.turn,
        "image": "cortex/llamacpp-server:cuda",
        "queued_at": clock.now() - ago,
        "spec": {"argv": ["--model", f"/models/{of.model.path}", "--alias", of.model.name, "--ctx-size", "8192"]},
        **more,
    }
    return Attempt.objects.create(replica=of, number=number, **row)


def seat(of: Replica, gpu: Gpu, size: int) -> None:
    """Memory promised to a replica."""
    Seat.objects.create(replica=of, gpu=gpu, bytes=size)
    gpu.reserved += size
    gpu.save(update_fields=["reserved"])


def whole_fleet(by: Person | None = None) -> Host:
    """One model of each kind, on one host."""
    atlas = host()
    first, second = atlas.gpus.order_by("index")
    _serving(atlas, first, by)
    _embedding(atlas, first)
    _on_its_way(atlas, second)
    _loading(atlas, second)
    _failing(atlas)
    _left_over(atlas)
    resting = model("mistral-7b-instruct", desired=Desired.STOPPED, context=32768)
    replica(resting, atlas, Observed.ABSENT, "Stopped.")
    return atlas


def _left_over(atlas: Host) -> None:
    """A container that nobody claims, of a model that is no more."""
    name = "cortex-5f1c0a7e-0b7d2e4090d24b1e8c331f0a6b7d2e40"
    found = clock.now() - timedelta(minutes=1)
    Stray.objects.create(host=atlas, container_id="5" * 64, name=name, model_name="phi-4", first_seen_at=found)


def _serving(atlas: Host, gpu: Gpu, by: Person | None) -> None:
    served = model("qwen3-30b-a3b", replicas=2, context=32768, users=8, options={"flash_attn": "on", "threads": 8})
    for slot in range(2):
        own = replica(served, atlas, Observed.READY, "Answers.", address=f"127.0.0.1:{49153 + slot}")
        seat(own, gpu, 12 * GIB)
        began = timedelta(hours=5, minutes=12)
        at = clock.now() - began
        attempt(
            own,
            1,
            began,
            created_at=at + timedelta(seconds=2),
            started_at=at + timedelta(seconds=3),
            weights_loaded_at=at + timedelta(seconds=33),
            cache_sized_at=at + timedelta(seconds=36),
            ready_at=at + timedelta(seconds=41),
            first_token_at=at + timedelta(seconds=95),
            bytes_to_load=11 * GIB,
        )
    for verb in ("define", "start"):
        Order.objects.create(
            model=served, model_name=served.name, verb=verb, by=by, by_name=by.username if by else "cortex", turn=1
        )


def _embedding(atlas: Host, gpu: Gpu) -> None:
    small = model("bge-m3", context=8192, path="embedding/bge-m3-f16.gguf")
    own = replica(small, atlas, Observed.READY, "Answers.", address="127.0.0.1:49160")
    seat(own, gpu, 3 * GIB)
    attempt(own, 1, timedelta(days=3), ready_at=clock.now() - timedelta(days=3))


def _on_its_way(atlas: Host, gpu: Gpu) -> None:
    coming = model(
        "deepseek-r1-distill-llama-8b", repository="unsloth/DeepSeek-R1-Distill-Llama-8B-GGUF", path="Q5_K_M.gguf"
    )
    own = replica(coming, atlas, Observed.FETCHING, "Fetching the weights from the hub.")
    seat(own, gpu, 7 * GIB)
    began = timedelta(seconds=95)
    at = clock.now() - began
    done, total = int(2.3 * GIB), int(5.7 * GIB)
    attempt(own, 1, began, fetching_at=at + timedelta(seconds=1), bytes_done=done, bytes_total=total)


def _loading(atlas: Host, gpu: Gpu) -> None:
    waking = model("gemma-3-12b", context=16384)
    own = replica(waking, atlas, Observed.LOADING, "Loading the model.")
    seat(own, gpu, 9 * GIB)
    began = timedelta(seconds=24)
    at = clock.now() - began
    created, started = at + timedelta(seconds=1), at + timedelta(seconds=2)
    attempt(own, 1, began, created_at=created, started_at=started, bytes_to_load=8 * GIB)


def _failing(atlas: Host) -> None:
    broken = model("llama-3.3-70b", context=65536)
    retry = clock.now() + timedelta(seconds=40)
    own = replica(broken, atlas, Observed.ABSENT, "Waits for its next try.", failures=3, retry_at=retry)
    for number in (1, 2, 3):
        began = timedelta(minutes=9 - 2 * number)
        at = clock.now() - began
        attempt(
            own,
            number,
            began,
            created_at=at + timedelta(seconds=1),
            started_at=at + timedelta(seconds=2),
            ended_at=at + timedelta(seconds=14),
            exit_code=1,
            failure=number,
            reason="The GPU has too little memory: 41.2 GiB were asked for on a card with 33.1 GiB free.",
            remedy="Lower the context from 65,536 to 16,384, choose smaller weights, or give it two GPUs.",
            first_log="\n".join(LOG.splitlines()[:3]),
            last_log=LOG,
        )
