"""Two hosts, wishes, labels, cordons and drains in any order, beside edits: what serves goes on, and arrives."""

import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, Phase, strategies
from hypothesis import settings as bounds
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from cortex.catalog.definition import Refusal
from cortex.catalog.models import Desired, Model
from cortex.fleet import clock
from cortex.fleet.models import Gpu, Host, Install, Replica, Seat
from cortex.fleet.states import Observed
from cortex.orchestration import drains, effects, fsck, host_orders, hosts, orders
from cortex.orchestration.reconcile import reconcile
from cortex.orchestration.runtimes import Here
from cortex.orchestration.settle import settle
from cortex.orchestration.sweep import sweep
from cortex.runtime.contract import Label, State
from cortex.runtime.scene import ImaginaryGpu, Script
from cortex.runtime.world import World
from tests.orchestration.conftest import CUDA_IMAGE, GIB, IMAGE, Time
from tests.orchestration.test_machine import Crash, Watched, crash, once_at

HOSTS = ("here", "there")
NAMES = ("a", "b")
GOOD, SLOW, BAD = "example/good:1", "example/slow:1", "example/bad:1"
SCRIPTS = {SLOW: Script(load=9), BAD: Script(load=3, exit_after=1, exit_code=1)}
names = strategies.sampled_from(NAMES)
hosts_ = strategies.sampled_from(HOSTS)
WISHES: list[dict[str, Any]] = [
    {},
    {"spread": True},
    {"hosts": ["here"]},
    {"hosts": ["there"]},
    {"hosts": ["nowhere"]},
    {"cards": ["GPU-here-0"]},
    {"cards": ["GPU-there-1", "GPU-here-1"]},
    {"cards": ["GPU-here-0"], "hosts": ["there"]},
    {"labels": {"zone": "x"}},
]
ALIVE = (State.RUNNING, State.PAUSED)
EXAMPLES, STEPS = int(os.environ.get("EXAMPLES", 4)), int(os.environ.get("STEPS", 30))


class Fleet(RuleBasedStateMachine):
    """Two hosts of two cards each, and two models that are to run the whole time. No accident but ends of processes."""

    @initialize()
    def begin(self) -> None:
        self.savepoint = transaction.atomic()
        self.savepoint.__enter__()
        self.time = Time()
        clock.now = timezone.now = self.time.now
        self.worlds: dict[str, World] = {}
        self.heres = {name: self.host(name) for name in HOSTS}
        self.served: set[str] = set()
        for name in NAMES:
            data = {"name": name, "engine": "llamacpp", "source": {"path": "tiny.gguf"}, "image": GOOD}
            orders.define({**data, "desired": "running"}, None)
        for _ in range(3):
            self.tick()

    def host(self, name: str) -> Here:
        self.worlds[name] = world = World(now=self.time.now, sleep=self.time.pass_)
        world.add_image(IMAGE, CUDA_IMAGE, GOOD, SLOW, BAD)
        for image, script in SCRIPTS.items():
            world.script(image, script)
        uuids = [f"GPU-{name}-{index}" for index in range(2)]
        world.add_gpus(*(ImaginaryGpu(uuid=uuid) for uuid in uuids))
        row = Host.objects.create(name=name, cores=4, memory=64 * GIB, seen_at=self.time.now())
        # Not alike: a model on two cards fits on `here` alone.
        kinds = ["L40S", "L40S" if name == "here" else "T4"]
        for index, (uuid, kind) in enumerate(zip(uuids, kinds, strict=True)):
            Gpu.objects.create(uuid=uuid, host=row, name=kind, total=48 * GIB, index=index)
        return Here(row, Watched(world, Install.identity(), settings.ENV.cortex_models.resolve()), world.gpus)

    def teardown(self) -> None:
        try:
            self.quiet()
        finally:
            transaction.set_rollback(True)
            self.savepoint.__exit__(None, None, None)

    # People

    def revise(self, name: str, **patch: Any) -> None:
        with suppress(Refusal, orders.NoSuchModel):  # pinned to cards, and on none; or gone
            orders.revise(name, patch, None)

    @rule(name=names, image=strategies.sampled_from([GOOD, SLOW, BAD]))
    def image(self, name: str, image: str) -> None:
        self.revise(name, image=image)

    @rule(name=names, wish=strategies.sampled_from(WISHES))
    def wish(self, name: str, wish: dict[str, Any]) -> None:
        nothing = {"cards": None, "hosts": None, "labels": None, "spread": None}
        self.revise(name, placement={**nothing, **wish})

    @rule(name=names, gpus=strategies.sampled_from([None, 0, 1, 2]), batch=strategies.sampled_from([32, 64]))
    def cards_and_options(self, name: str, gpus: int | None, batch: int) -> None:
        self.revise(name, gpus=gpus, options={"batch_size": batch})

    @rule(name=names)
    def grow(self, name: str) -> None:
        self.revise(name, replicas=2)

    @rule(name=names)
    def shrink(self, name: str) -> None:
        self.served.discard(name)
        self.revise(name, replicas=1)

    @rule(name=names)
    def restart(self, name: str) -> None:
        with suppress(orders.NoSuchModel):
            orders.restart(name, None)

    @rule(name=hosts_, cordoned=strategies.booleans())
    def cordon(self, name: str, cordoned: bool) -> None:
        self.say(name, cordoned=cordoned)

    @rule(name=hosts_, draining=strategies.booleans())
    def drain(self, name: str, draining: bool) -> None:
        self.say(name, draining=draining)

    @rule(name=hosts_, zone=strategies.sampled_from(["x", "y", None]))
    def label(self, name: str, zone: str | None) -> None:
        self.say(name, labels={"zone": zone})

    def say(self, name: str, **patch: Any) -> None:
        with suppress(host_orders.NoSuchHost):  # forgotten, and not back yet
            host_orders.revise(name, patch, None)

    # The loop

    @rule()
    def tick(self) -> None:
        for name in HOSTS:
            self.sweep(name)

    @rule(name=hosts_)
    def sweep(self, name: str) -> None:
        self.time_passes(1)
        self.heres[name].host.refresh_from_db()
        with effects.watched(lambda effect, moment: self.nobody_who_served_is_missed()):
            sweep(self.heres[name])

    @rule(name=hosts_, which=strategies.integers(0, 3))
    def look(self, name: str, which: int) -> None:
        """At one replica alone, before its rows are settled."""
        rows = list(Replica.objects.order_by("id").values_list("id", flat=True))
        reconcile(rows[which % len(rows)], self.heres[name])

    @rule(name=names)
    def settle_alone(self, name: str) -> None:
        for model in Model.objects.filter(name=name):
            settle(model.id)

    @rule(name=hosts_, at=strategies.integers(0, 25))
    def sweep_that_crashes(self, name: str, at: int) -> None:
        with suppress(Crash), once_at(at, crash):
            self.sweep(name)

    @rule(name=hosts_, at=strategies.integers(0, 12), deed=strategies.integers(0, 17), of=names)
    def sweep_and_people_meanwhile(self, name: str, at: int, deed: int, of: str) -> None:
        deeds: list[Callable[[], None]] = [
            *(partial(self.wish, of, wish) for wish in WISHES),
            *(partial(self.image, of, image) for image in (GOOD, SLOW, BAD)),
            *(partial(self.drain, name, on) for on in (True, False)),
            *(partial(self.cordon, name, on) for on in (True, False)),
            *(partial(self.label, name, zone) for zone in ("x", None)),
        ]
        with once_at(at, lambda effect, moment: deeds[deed]()):
            self.sweep(name)

    @rule(seconds=strategies.sampled_from([5, 15, 90]))
    def later(self, seconds: int) -> None:
        self.time_passes(seconds)

    def time_passes(self, seconds: int) -> None:
        """Both hosts are heard of meanwhile."""
        self.time.pass_(seconds)
        for name, here in self.heres.items():
            hosts.register(here)
            hosts.sample(here, self.worlds[name].gpus())

    @rule(name=hosts_, verb=strategies.sampled_from(["create", "start", "stop", "remove"]))
    def answer_will_be_lost(self, name: str, verb: Any) -> None:
        self.worlds[name].lose_answer(verb)

    # What always holds

    @invariant()
    def nobody_who_served_is_missed(self) -> None:
        """Of a model that served, and is to run, one serves."""
        now = set(Replica.objects.serving().values_list("model__name", flat=True))
        assert self.served <= now, self.told()
        self.served |= now

    @invariant()
    def one_live_container_a_replica(self) -> None:
        live = [labels[Label.REPLICA] for labels, state in self.containers() if state in ALIVE]
        assert len(live) == len(set(live))

    @invariant()
    def rows_are_sound(self) -> None:
        found = [violation for violation in fsck.rows() if violation.rule in (3, 4, 6, 8, 10)]
        assert [violation for violation in found if "nothing of it is there" not in violation.what] == []
        assert not Replica.objects.filter(called_off=True, replaces__isnull=False).exists()

    @invariant()
    def nothing_starts_that_nobody_wants(self) -> None:
        assert [here.runtime.unwanted for here in self.heres.values() if here.runtime.unwanted] == []  # type: ignore[attr-defined]

    @invariant()
    def seats_are_where_the_replica_is(self) -> None:
        for seat in Seat.objects.select_related("replica__host", "gpu"):
            assert seat.replica.host_id == seat.gpu.host_id

    def containers(self) -> list[tuple[dict[str, str], State]]:
        found = []
        for world in self.worlds.values():
            with world.open() as scene:
                found += [(each.labels, each.state) for each in scene.containers.values()]
        return found

    def told(self) -> list[str]:
        rows = Replica.objects.select_related("model", "host")
        return [
            f"{r} on {r.host} {r.observed} drains={r.draining_at} {r.called_off} t{r.turn}/{r.model.turn}: {r.reason}"
            for r in rows
        ]

    def quiet(self) -> None:
        """Once nothing more happens, hosts that are to be empty are, and what people want is so."""
        for world in self.worlds.values():
            with world.open() as scene:
                scene.lost = []
                scene.scripts.clear()
        self.rest(12)
        self.who_stays_has_a_reason()
        for name in HOSTS:
            self.say(name, cordoned=False)
        self.rest(12)
        for replica in Replica.objects.select_related("model"):
            wanted = Observed.READY if replica.wanted else Observed.ABSENT
            assert replica.observed == wanted or "Waits for room" in replica.reason, self.told()
        for model in Model.objects.filter(desired=Desired.RUNNING):
            homeless = model.replica_set.filter(host=None).exists()
            assert homeless or model.replica_set.count() == model.replicas, self.told()
        for world in self.worlds.values():
            with world.open() as scene:
                scene.calls.clear()
        self.tick()
        assert [world.changes() for world in self.worlds.values()] == [[], []]
        found = fsck.rows()
        for here in self.heres.values():
            found += fsck.containers(here.host, here.runtime)
        assert found == []

    def who_stays_has_a_reason(self) -> None:
        for progress in filter(None, map(drains.progress, Host.objects.all())):
            for each in progress.staying:
                new = Replica.objects.filter(replaces=each.replica).first()
                assert each.pinned or (new and new.host is None and new.reason), (each.why, self.told())

    def rest(self, rounds: int) -> None:
        for _ in range(rounds):
            self.time_passes(310)
            self.tick()


class RoughFleet(Fleet):
    """The same with stops, deletions and accidents: what served may be missed, all else holds."""

    @invariant()
    def nobody_who_served_is_missed(self) -> None:
        pass

    @rule(name=names, verb=strategies.sampled_from([orders.start, orders.stop, orders.remove]))
    def order(self, name: str, verb: Callable[..., Model]) -> None:
        with suppress(orders.NoSuchModel):
            verb(name, None)

    @rule(name=hosts_, which=strategies.integers(0, 5), code=strategies.sampled_from([0, 1, 137]))
    def ends(self, name: str, which: int, code: int) -> None:
        with self.worlds[name].open() as scene:
            found = [each.name for each in scene.containers.values()]
        if found:
            self.worlds[name].end(found[which % len(found)], code)

    @rule(name=hosts_, up=strategies.booleans())
    def engine_goes(self, name: str, up: bool) -> None:
        with self.worlds[name].open() as scene:
            scene.down = not up

    @rule(name=hosts_)
    def falls_silent(self, name: str) -> None:
        """Until its next sweep."""
        self.time.pass_(60)
        hosts.register(next(here for other, here in self.heres.items() if other != name))
        hosts.mark_silent()

    @rule(name=hosts_, index=strategies.integers(0, 1), missing=strategies.booleans())
    def card_goes(self, name: str, index: int, missing: bool) -> None:
        uuid, world = f"GPU-{name}-{index}", self.worlds[name]
        with world.open() as scene:
            scene.gpus = [gpu for gpu in scene.gpus if gpu.uuid != uuid]
            scene.gpus += [] if missing else [ImaginaryGpu(uuid=uuid)]
        hosts.sample(self.heres[name], world.gpus())

    @rule(name=hosts_)
    def forget(self, name: str) -> None:
        with suppress(Refusal):
            host_orders.forget(name, None)

    def quiet(self) -> None:
        for name, world in self.worlds.items():
            with world.open() as scene:
                scene.down = False
                scene.gpus = [ImaginaryGpu(uuid=f"GPU-{name}-{index}") for index in range(2)]
        super().quiet()


@pytest.mark.django_db
@pytest.mark.parametrize("kind", [Fleet, RoughFleet])
def test_whatever_people_wish_what_serves_goes_on(
    kind: type[Fleet], made: Path, models_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (models_folder / "tiny.gguf").write_bytes(made.read_bytes())
    monkeypatch.setattr(settings.ENV, "cortex_state", tmp_path)
    monkeypatch.setattr(clock, "now", clock.now)
    monkeypatch.setattr(timezone, "now", timezone.now)
    run_state_machine_as_test(
        kind,
        settings=bounds(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
