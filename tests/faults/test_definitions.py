"""Definitions that want out of their container: refused when saved, and again by the loop when planted in the rows."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cortex.access.models import Person
from cortex.catalog.models import Model
from cortex.fleet.states import Observed, Phase
from cortex.orchestration.sweep import sweep
from cortex.runtime.world import World
from engines import engine
from engines.argv import matches
from engines.contract import ContainerSpec
from engines.llamacpp_options import LlamaCppOptions
from tests.conftest import rest_client
from tests.engines.test_argv import denied
from tests.faults.record import Record
from tests.orchestration.conftest import Loop

Define = Callable[..., Model]
Json = dict[str, Any]

CORPUS: dict[str, Json] = {
    "the address": {"options": {"extra_args": ["--host", "0.0.0.0"]}},
    "the address, attached": {"options": {"extra_args": ["--port=22"]}},
    "a shortened flag": {"options": {"extra_args": ["--log-fi", "/etc/cron.d/x"]}},
    "underscores": {"options": {"extra_args": ["--api_key", "x"]}},
    "another model": {"options": {"extra_args": ["-m", "/etc/shadow"]}},
    "the hub": {"options": {"extra_args": ["-hf", "somebody/something"]}},
    "tools": {"options": {"extra_args": ["--tools", "all"]}},
    "a remote worker": {"options": {"extra_args": ["--rpc", "10.0.0.1:50052"]}},
    "a file of arguments": {"options": {"extra_args": ["--verbose", "@/etc/passwd"]}},
    "the end of options": {"options": {"extra_args": ["--verbose", "--"]}},
    "a line break": {"options": {"extra_args": ["--verbose\n--host=::"]}},
    "a NUL": {"options": {"extra_args": ["--verbose\0"]}},
    "no flag first": {"options": {"extra_args": ["/bin/sh", "-c", "id"]}},
    "an environment": {"options": {"env": {"LD_PRELOAD": "/models/x.so"}}},
    "a mount": {"options": {"mounts": ["/:/host"]}},
    "privileges": {"options": {"privileged": True}},
    "a path upwards": {"source": {"path": "../../etc/passwd"}},
    "a path in the middle": {"source": {"path": "a/../../../etc/passwd"}},
    "an absolute path": {"source": {"path": "/etc/passwd"}},
    "a link outside": {"source": {"path": "link.gguf"}},
    "a folder that is a link": {"source": {"path": "folder"}},
    "the socket": {"source": {"path": "docker.sock"}},
    "a repository that is a path": {"source": {"repository": "../..", "path": "x.gguf"}},
    "a revision that is a path": {"source": {"repository": "a/b", "revision": "../../../x", "path": "x.gguf"}},
    "an image with an option": {"image": "--privileged"},
    "an image with a blank": {"image": "alpine -v /:/host"},
    "an image with a command": {"image": "alpine;id"},
    "a name that is a path": {"name": "../x"},
    "an engine that is none": {"engine": "os.system"},
    "a placement that is none": {"placement": {"host": "/"}},
    "cards by the wrong number": {"gpus": -1},
}
HARMLESS = st.sampled_from(["--verbose", "--no-warmup", "--no-perf", "--mmproj=/models/x"])
WORDS = st.sampled_from(denied(engine("llamacpp"))) | st.text(max_size=9) | HARMLESS
ANYTHING = st.none() | st.booleans() | st.integers() | WORDS | st.lists(WORDS, max_size=3)
OPTIONS = st.one_of(
    st.fixed_dictionaries({"extra_args": st.lists(HARMLESS, min_size=1, max_size=2)}),
    st.fixed_dictionaries({"extra_args": st.lists(WORDS, max_size=2)}, optional={"threads": st.integers(-1, 2000)}),
    st.dictionaries(st.sampled_from(["env", "mounts", "entrypoint", "extra_args", "privileged"]), ANYTHING),
)


@pytest.fixture
def traps(models_folder: Path, tmp_path: Path) -> Iterator[None]:
    """Ways out of the models folder, laid by somebody who may write there."""
    (tmp_path / "config.json").write_text("{}")
    ways: dict[str, str | Path] = {
        "link.gguf": "/etc/passwd",
        "folder": tmp_path,
        "docker.sock": "/var/run/docker.sock",
    }
    for name, outside in ways.items():
        (models_folder / name).symlink_to(outside)
    yield
    for name in ways:
        (models_folder / name).unlink()


@pytest.mark.fault(49)
def test_what_wants_out_is_refused_when_it_is_saved(
    bob: Person, define: Define, traps: None, loop: Loop, record: Record
) -> None:
    define()
    rest = rest_client(bob)
    whole = {"name": "bad", "engine": "llamacpp", "source": {"path": "tiny.gguf"}, "desired": "running"}
    for wish, wrong in CORPUS.items():
        data = whole | wrong
        assert rest.post("/api/v1/models", data, format="json").status_code == 400, wish
        changed = rest.patch("/api/v1/models/tiny", wrong, format="json")
        assert changed.status_code == 400, wish
    assert [model.turn for model in Model.objects.all()] == [1]
    record.saw(f"REST refused {len(CORPUS)} of {len(CORPUS)} ways out, new and as a change of what runs.")
    record.check(loop.here)


def plant(model: Model, wrong: Json) -> None:
    """Write it past every check, as somebody with the database's password would."""
    values = {key: value for key, value in wrong.items() if key != "source"} | wrong.get("source", {})
    Model.objects.filter(id=model.id).update(**values)


# Some of it no row can hold: PostgreSQL keeps neither a NUL nor a negative count.
PLANTED = {wish: wrong for wish, wrong in CORPUS.items() if wish not in ("a NUL", "cards by the wrong number")}


@pytest.mark.fault(49)
@pytest.mark.django_db
def test_what_is_planted_in_the_rows_is_refused_by_the_loop(
    define: Define, traps: None, loop: Loop, world: World, record: Record
) -> None:
    planted = {}
    for number, (wish, wrong) in enumerate(PLANTED.items()):
        model = define(f"m{number}", desired="stopped")
        plant(model, wrong | {"desired": "running", "turn": 2})
        planted[model.id] = wish
    define("good")
    with record.convergence(lambda: loop.time.at.timestamp()):
        for _ in range(3):
            sweep(loop.here)
            loop.time.pass_(15)
    assert {call.subject for call in world.changes() if call.verb == "create"} == {loop.replica("good").container_name}
    assert loop.replica("good").observed == Observed.READY
    for id, wish in planted.items():
        replica = Model.objects.get(id=id).replica_set.get()
        assert replica.phase is Phase.FAILING, (wish, replica.reason)
        assert replica.gave_up, wish
    record.saw(f"Of {len(PLANTED)} planted rows the loop started none; each says why, and the model beside serves.")
    record.check(loop.here)


@pytest.fixture
def made_of(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> list[ContainerSpec]:
    """What containers were asked for."""
    specs: list[ContainerSpec] = []
    create = loop.here.runtime.create

    def noted(name: str, spec: ContainerSpec, labels: Any) -> str:
        specs.append(spec)
        return create(name, spec, labels)

    monkeypatch.setattr(loop.here.runtime, "create", noted)
    return specs


@pytest.mark.fault(49)
@pytest.mark.django_db
def test_whatever_is_planted_no_container_leaves_its_envelope(
    define: Define, loop: Loop, world: World, made_of: list[ContainerSpec], record: Record
) -> None:
    model = define(desired="stopped")
    plain, managed = envelope(model, loop, made_of)
    refused = [flag for pattern in LlamaCppOptions.refused for flag in pattern.split()]

    @settings(max_examples=25, deadline=None, derandomize=True)
    @given(options=OPTIONS, image=st.sampled_from(["", "x", "-v"]))
    def planted(options: Json, image: str) -> None:
        start(model, loop, {"options": json.loads(json.dumps(options).replace("\\u0000", "")), "image": image})
        for spec in made_of:
            assert spec.argv[: len(managed)] == managed
            words = spec.argv[len(managed) :]
            assert not any(matches(word, flag, shortened=True) for word in words for flag in refused)
            assert spec.model_copy(update={"argv": plain.argv, "image": plain.image}) == plain
        start(model, loop, {"desired": "stopped"})
        assert loop.containers() == []

    made_of.clear()
    planted()
    assert len(made_of) > 5
    record.saw(f"Rows made at random: {len(made_of)} containers were asked for, each within the envelope.")
    record.check(loop.here)


def start(model: Model, loop: Loop, wrong: Json) -> None:
    """Plant it as something people want running now, unless it says otherwise, and look."""
    turn = Model.objects.values_list("turn", flat=True).get(id=model.id) + 1
    plant(model, {"desired": "running", "turn": turn} | wrong)
    loop.world.add_image("x")
    loop.time.pass_(10)
    sweep(loop.here)


def envelope(model: Model, loop: Loop, made_of: list[ContainerSpec]) -> tuple[ContainerSpec, tuple[str, ...]]:
    """What a plain container is made of, and those of its arguments that nobody may change."""
    start(model, loop, {})
    start(model, loop, {"desired": "stopped"})
    plain = made_of[-1]
    return plain, plain.argv[: plain.argv.index("--no-webui") + 1]
