"""Anything in any order: people, accidents, lost answers and crashes, and what always holds after each step."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, Phase, strategies
from hypothesis import settings as bounds
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from cortex.catalog.models import Model
from cortex.fleet import clock
from cortex.fleet.models import Gpu, Host, Install, Replica, Seat
from cortex.fleet.states import Observed
from cortex.orchestration import effects, fsck, hosts, orders
from cortex.orchestration.runtimes import Here
from cortex.orchestration.settle import settle
from cortex.orchestration.sweep import sweep
from cortex.runtime.contract import Container, Label, NameTaken, State, Unreachable
from cortex.runtime.fake import FakeRuntime
from cortex.runtime.scene import ImaginaryGpu, Script
from cortex.runtime.world import World
from engines.contract import ContainerSpec
from tests.orchestration.conftest import CUDA_IMAGE, GIB, IMAGE, Time

NAMES = ("a", "b")
CARDS = ("GPU-0", "GPU-1")
names = strategies.sampled_from(NAMES)
SCRIPTS = (Script(), Script(load=20), Script(load=9, exit_after=2, exit_code=1))
ALIVE = (State.RUNNING, State.PAUSED)
STRANGER = "stranger"


class Crash(BaseException):
    """The process ends here."""


def retune(name: str, by: None) -> Model:
    return orders.revise(name, {"options": {"batch_size": 64}}, by)


verbs = strategies.sampled_from([orders.start, orders.stop, orders.restart, orders.remove, retune])


class Watched(FakeRuntime):
    """Notes what is started though nobody wants it so any more, unless they said so in this very moment."""

    just_now = False

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.unwanted: list[str] = []

    def start(self, container_id: str) -> None:
        found = self.inspect(container_id)
        replica = Replica.objects.select_related("model").get(id=found.labels[Label.REPLICA]) if found else None
        just_now, self.just_now = self.just_now, False
        if replica and not just_now and not (replica.wanted and replica.turn == replica.model.turn):
            self.unwanted.append(str(replica))
        super().start(container_id)


class Machine(RuleBasedStateMachine):
    """A host with two cards, two models on one card each, and everything that can happen to them."""

    world = World()

    @initialize()
    def begin(self) -> None:
        self.savepoint = transaction.atomic()
        self.savepoint.__enter__()
        self.time = Time()
        clock.now = timezone.now = self.time.now
        self.strangers: set[str] = set()
        self.world = World(now=self.time.now, sleep=self.time.pass_)
        self.world.add_image(IMAGE, CUDA_IMAGE)
        self.world.add_gpus(*(ImaginaryGpu(uuid=uuid) for uuid in CARDS))
        host = Host.objects.create(name="test", cores=4, seen_at=self.time.now())
        Gpu.objects.bulk_create(Gpu(uuid=uuid, host=host, name="L40S", total=48 * GIB) for uuid in CARDS)
        models = settings.ENV.cortex_models.resolve()
        self.runtime = Watched(self.world, Install.identity(), models)
        self.here = Here(host, self.runtime, self.world.gpus)
        self.strange = FakeRuntime(self.world, STRANGER, models)
        for name in NAMES:
            self.define(name, 1, 32)

    def teardown(self) -> None:
        try:
            self.quiet()
        finally:
            transaction.set_rollback(True)
            self.savepoint.__exit__(None, None, None)

    # People

    def define(self, name: str, replicas: int, batch: int) -> None:
        data = {"name": name, "engine": "llamacpp", "source": {"path": "tiny.gguf"}, "gpus": 1, "replicas": replicas}
        orders.define({**data, "desired": "running", "options": {"batch_size": batch}}, None)

    @rule(name=names, replicas=strategies.integers(0, 3), batch=strategies.sampled_from([32, 64]))
    def edit(self, name: str, replicas: int, batch: int) -> None:
        self.define(name, replicas, batch)

    @rule(name=names, verb=verbs)
    def order(self, name: str, verb: Callable[..., Model]) -> None:
        if Model.objects.declared().filter(name=name).exists():
            verb(name, None)

    # The loop

    @rule()
    def tick(self) -> None:
        sweep(self.here)

    @rule(at=strategies.integers(0, 25))
    def tick_that_crashes(self, at: int) -> None:
        with suppress(Crash), once_at(at, crash):
            self.tick()

    @rule(at=strategies.integers(0, 15), name=names, verb=verbs)
    def tick_and_people_meanwhile(self, at: int, name: str, verb: Callable[..., Model]) -> None:
        def act(effect: str, moment: str) -> None:
            self.runtime.just_now = (effect, moment) == ("start", effects.Moment.BEFORE)
            self.order(name, verb)

        with once_at(at, act):
            self.tick()
        self.runtime.just_now = False

    @rule(at=strategies.integers(0, 15))
    def tick_and_the_engine_goes_meanwhile(self, at: int) -> None:
        with once_at(at, lambda effect, moment: self.world.take_down()):
            self.tick()

    @rule(name=names)
    def settle_alone(self, name: str) -> None:
        for model in Model.objects.filter(name=name):
            settle(model.id)

    @rule(seconds=strategies.sampled_from([1, 15, 90, 400]))
    def time_passes(self, seconds: int) -> None:
        self.time.pass_(seconds)
        hosts.register(self.here)
        hosts.sample(self.here, self.world.gpus())

    @rule()
    def silence(self) -> None:
        """Neither agent nor worker was heard of."""
        self.time.pass_(60)
        hosts.mark_silent()

    # The host

    @rule(which=strategies.integers(0, 5), code=strategies.sampled_from([0, 1, 137]), oom=strategies.booleans())
    def ends(self, which: int, code: int, oom: bool) -> None:
        for container in self.some(which):
            self.world.end(container.name, code, oom=oom)

    @rule(which=strategies.integers(0, 5), how=strategies.sampled_from(["pause", "remove", "rename"]))
    def by_hand(self, which: int, how: str) -> None:
        for container in self.some(which):
            with self.world.open() as scene:
                found = scene.containers[container.id]
                if how == "pause" and found.state is State.RUNNING:
                    found.state = State.PAUSED
                elif how == "remove":
                    del scene.containers[container.id]
                elif how == "rename":
                    found.name = f"renamed-{container.id[:8]}"

    @rule(which=strategies.integers(0, 5), ours=strategies.booleans())
    def stranger_appears(self, which: int, ours: bool) -> None:
        replicas = list(Replica.objects.all())
        if not replicas or self.is_down():
            return
        replica = replicas[which % len(replicas)]
        name = replica.container_name if ours else f"cortex-other-{len(self.strangers)}"
        labels = {Label.REPLICA: replica.id.hex, Label.ATTEMPT: "1"}
        with suppress(NameTaken, Unreachable):
            self.strange.create(name, ContainerSpec(image=IMAGE, argv=()), labels)
        self.strangers = {container.id for container in self.of(STRANGER)}

    @rule(verb=strategies.sampled_from(["create", "start", "stop", "remove", "inspect", "find"]))
    def answer_will_be_lost(self, verb: Any) -> None:
        self.world.lose_answer(verb)

    @rule(up=strategies.booleans())
    def engine_goes(self, up: bool) -> None:
        if up:
            self.world.bring_up()
        else:
            self.world.take_down()

    @rule(
        name=names,
        script=strategies.sampled_from([Script(), Script(load=20), Script(load=9, exit_after=2, exit_code=1)]),
    )
    def behaves(self, name: str, script: Script) -> None:
        self.world.script(name, script)

    def is_down(self) -> bool:
        with self.world.open() as scene:
            return scene.down

    def some(self, which: int) -> list[Container]:
        mine = self.of(Install.identity())
        return [mine[which % len(mine)]] if mine else []

    def of(self, install: str) -> list[Container]:
        with self.world.open() as scene:
            found = [c for c in scene.containers.values() if c.labels.get(Label.INSTALL) == install]
            return [Container(c.id, c.name, c.image, c.state, c.labels, gpus=c.gpus) for c in found]

    # What always holds

    @invariant()
    def one_live_container_a_replica(self) -> None:
        live = [c.labels[Label.REPLICA] for c in self.of(Install.identity()) if c.state in ALIVE]
        assert len(live) == len(set(live))

    @invariant()
    def what_runs_has_its_seats(self) -> None:
        for container in self.of(Install.identity()):
            seats = Seat.objects.filter(replica_id=container.labels[Label.REPLICA]).values_list("gpu_id", flat=True)
            assert container.state not in ALIVE or set(container.gpus) <= set(seats)

    @invariant()
    def seats_add_up(self) -> None:
        """What a crash leaks is for the next whole look to find: quiet() asks about that."""
        found = [violation for violation in fsck.rows() if violation.rule in (3, 4, 6, 8, 10)]
        assert [violation for violation in found if "nothing of it is there" not in violation.what] == []

    @invariant()
    def stop_wins(self) -> None:
        assert self.runtime.unwanted == []

    @invariant()
    def strangers_are_left_alone(self) -> None:
        assert self.strangers == {container.id for container in self.of(STRANGER)}

    def quiet(self) -> None:
        """Once nothing more happens, what people want is so."""
        with self.world.open() as scene:
            scene.down, scene.lost = False, []
            scene.scripts.clear()
            for id in self.strangers:
                del scene.containers[id]
            self.strangers = set()
        for _ in range(14):
            self.time.pass_(310)
            sweep(self.here)
        for replica in Replica.objects.select_related("model"):
            wanted = Observed.READY if replica.wanted else Observed.ABSENT
            room = replica.wanted and "Waits for room" in replica.reason
            assert replica.observed == wanted or replica.gave_up or room, (str(replica), replica.reason)
        calls = len(self.world.changes())
        sweep(self.here)
        assert len(self.world.changes()) == calls
        assert fsck.rows() + fsck.containers(self.here.host, self.here.runtime) == []


@contextmanager
def once_at(point: int, act: effects.Watcher) -> Iterator[None]:
    """Do something at this effect, if it gets so far."""
    left = [point]

    def watch(effect: str, moment: str) -> None:
        left[0] -= 1
        if left[0] == -1:
            act(effect, moment)

    with effects.watched(watch):
        yield


def crash(effect: str, moment: str) -> None:
    raise Crash


@pytest.mark.django_db
def test_whatever_happens_in_whatever_order(made: Path, models_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (models_folder / "tiny.gguf").write_bytes(made.read_bytes())
    monkeypatch.setattr(clock, "now", clock.now)
    monkeypatch.setattr(timezone, "now", timezone.now)
    run_state_machine_as_test(
        Machine,
        settings=bounds(
            max_examples=12,
            stateful_step_count=30,
            deadline=None,
            database=None,
            phases=[Phase.generate],  # shrinking runs it again for up to five minutes before it says what it found
            suppress_health_check=list(HealthCheck),
        ),
    )
