"""One replica to what people want: observe, decide by the table, do one thing, look again."""

import logging
from datetime import timedelta
from uuid import UUID

from pydantic import ValidationError

from cortex.calculator.unreadable import UnreadableModel
from cortex.catalog.definition import Refusal
from cortex.fleet import clock
from cortex.fleet.models import FORGIVEN_AFTER, Attempt, Install, Replica
from cortex.fleet.states import Facts, Observed, Step, next_step
from cortex.orchestration import attempts, plan
from cortex.orchestration.lock import only_one
from cortex.orchestration.observe import Seen, look
from cortex.orchestration.runtimes import Here
from cortex.orchestration.settle import settle
from cortex.runtime.contract import Label, NameTaken, NoGpuRuntime, Runtime, RuntimeFault, State, Unreachable
from engines.contract import ContainerSpec

log = logging.getLogger(__name__)

STEPS_AT_ONCE = 12
RETRY_HOST = timedelta(seconds=30)
RETRY_ROOM = timedelta(seconds=5)
STOP_ALLOWANCE = 5.0


class Overtaken(Exception):
    """People changed their mind while we worked: what was computed is void."""


def reconcile(replica_id: UUID, here: Here) -> None:
    """Take one replica of this host as far as it goes without waiting. Idempotent; when settled, one look."""
    with only_one(replica_id) as held:
        if not held:
            return
        ours = Replica.objects.select_related("model", "host").filter(id=replica_id, host=here.host)
        for _ in range(STEPS_AT_ONCE):
            replica = ours.first()
            if replica is None or not Pass(replica, here.runtime).take():
                break
    if replica and replica.model.removed_at:
        settle(replica.model_id)


class Pass:
    """One look at a replica and one step."""

    def __init__(self, replica: Replica, runtime: Runtime) -> None:
        self.replica = replica
        self.runtime = runtime
        self.attempt = attempts.current(replica)

    def take(self) -> bool:
        """Whether something was done, so that another look is due."""
        if self.replica.turn != self.replica.model.turn:
            self.replica.begin_turn()
        seen = look(self.runtime, self.replica, self.attempt)
        self._record(seen)
        step = next_step(seen.observed, self._facts(seen))
        try:
            return self._do(step, seen)
        except Overtaken:
            return True
        except Unreachable as fault:
            log.warning("%s: %s did not answer in time: %s", self.replica, step, fault)
            return False

    def _facts(self, seen: Seen) -> Facts:
        replica = self.replica
        now = clock.now()
        held = replica.gave_up or (replica.retry_at is not None and replica.retry_at > now)
        return Facts(wanted=replica.wanted, held=held, stale=self._is_stale(seen), overdue=self._is_overdue(seen))

    def _is_stale(self, seen: Seen) -> bool:
        """Whether what runs differs from what people want now; looked into once a turn."""
        attempt, replica = self.attempt, self.replica
        if attempt is None or not attempt.fingerprint or not replica.wanted or seen.container is None:
            return False
        if attempt.confirmed_turn == replica.turn:
            return False
        if replica.model.fresh_turn > attempt.confirmed_turn:
            return True
        if self._wanted_fingerprint() != attempt.fingerprint:
            return True
        attempt.confirmed_turn = replica.turn
        attempt.save(update_fields=["confirmed_turn"])
        return False

    def _wanted_fingerprint(self) -> str:
        try:
            found = plan.locate(self.replica)
            if found is None:
                return ""
            gpus = tuple(self.replica.seats.order_by("gpu__index").values_list("gpu_id", flat=True))
            return plan.wanted(self.replica, found, gpus).spec.fingerprint()
        except (UnreadableModel, Refusal, ValidationError):
            return ""

    def _is_overdue(self, seen: Seen) -> bool:
        since, attempt = self.replica.observed_at, self.attempt
        if since is None or attempt is None or not attempt.spec:
            return False
        spec = ContainerSpec.model_validate(attempt.spec)
        match seen.observed:
            case Observed.LOADING:
                return clock.now() - (attempt.started_at or since) > timedelta(seconds=spec.start_deadline)
            case Observed.STOPPING:
                return clock.now() - since > timedelta(seconds=spec.stop_grace + STOP_ALLOWANCE)
        return False

    def _record(self, seen: Seen) -> None:
        replica, attempt = self.replica, self.attempt
        replica.observe(seen.observed, seen.reason, address=seen.address)
        self._count_misses(seen)
        match seen.observed:
            case Observed.ABSENT if seen.container is None:
                self._note_absence()
            case Observed.READY if attempt:
                attempt.stamp("ready_at")
                if replica.failures and attempt.ready_at and clock.now() - attempt.ready_at > FORGIVEN_AFTER:
                    replica.forgive()

    def _note_absence(self) -> None:
        """Its container was seen gone: an attempt that had one ended without a word, and the seats are free."""
        if self.attempt and self.attempt.created_at:
            self._end(self.attempt, "Its container was removed from outside Cortex.", failed=self.replica.wanted)
            self.attempt = None
        if self.replica.seats.exists():
            plan.free_seats(self.replica)

    def _count_misses(self, seen: Seen) -> None:
        silent = seen.health is not None and seen.health.value != "ready" and seen.observed is Observed.READY
        misses = self.replica.misses + 1 if silent else 0
        if misses != self.replica.misses:
            self.replica.misses = misses
            self.replica.save(update_fields=["misses"])

    def _do(self, step: Step, seen: Seen) -> bool:
        match step:
            case Step.START:
                return self._start()
            case Step.STOP | Step.DRAIN | Step.RESTART:
                return self._stop(seen)
            case Step.KILL if seen.container:
                self.runtime.kill(seen.container.id)
                return True
            case Step.REMOVE if seen.container:
                return self._remove(seen)
        return False

    def _start(self) -> bool:
        try:
            return self._launch()
        except plan.NoSeat as why:
            return self._wait(f"Waits for room. {why}", RETRY_ROOM)
        except NoGpuRuntime as fault:
            return self._blame_host(fault)
        except UnreadableModel as error:
            return self._fail(f"{error.what}: {error.why}", error.remedy, permanent=True)
        except (Refusal, ValidationError) as error:
            return self._fail(str(error), "Correct the definition.", permanent=True)
        except Unreachable:
            raise
        except RuntimeFault as fault:
            return self._fail(fault.what, fault.remedy, permanent=fault.permanent)

    def _launch(self) -> bool:
        replica = self.replica
        self.attempt = None  # named by begin() once it is known what runs
        found = plan.locate(replica)
        gpus = plan.take_seats(replica, found.size) if found else ()
        image = plan.image(replica, gpus=bool(gpus))
        self.attempt = attempt = attempts.begin(replica, image)
        if found is None or not self.runtime.has_image(image):
            attempt.stamp("fetching_at")
            what = f"image {image}" if found else f"{replica.model.repository} from the hub"
            replica.observe(Observed.FETCHING, f"Fetching {what}.")
            return False
        wanted = plan.wanted(replica, found, gpus)
        self._note(attempt, wanted)
        container_id = self._create(attempt, wanted.spec)
        self._check_turn(container_id)
        self.runtime.start(container_id)
        attempt.stamp("started_at")
        replica.observe(Observed.LOADING, "Its process starts.")
        return True

    def _note(self, attempt: Attempt, wanted: plan.Wanted) -> None:
        attempt.spec = wanted.spec.model_dump(mode="json")
        attempt.fingerprint = wanted.spec.fingerprint()
        attempt.image, attempt.bytes_to_load = wanted.spec.image, wanted.size
        attempt.save(update_fields=["spec", "fingerprint", "image", "bytes_to_load"])

    def _create(self, attempt: Attempt, spec: ContainerSpec) -> str:
        replica = self.replica
        labels = {
            Label.INSTALL: Install.identity(),
            Label.REPLICA: replica.id.hex,
            Label.MODEL: replica.model.name,
            Label.TURN: str(replica.turn),
            Label.FINGERPRINT: attempt.fingerprint,
            Label.ATTEMPT: str(attempt.number),
        }
        try:
            container_id = self.runtime.create(replica.container_name, spec, labels)
        except NameTaken:
            container_id = self._adopt(attempt)
        attempt.container_id = container_id
        attempt.stamp("created_at")
        attempt.save(update_fields=["container_id"])
        return container_id

    def _adopt(self, attempt: Attempt) -> str:
        """The container that bears our name already: ours of an earlier, cut-off call, or a stranger's."""
        found = self.runtime.inspect(self.replica.container_name)
        if found is None:
            raise Overtaken
        if found.labels.get(Label.REPLICA) != self.replica.id.hex:
            remedy = "Remove or rename that container by hand; Cortex never touches what is not its own."
            raise RuntimeFault(f"A container that is not ours bears the name {found.name}.", remedy)
        if found.labels.get(Label.FINGERPRINT) == attempt.fingerprint and found.state is not State.EXITED:
            return found.id
        self.runtime.stop(found.id, 10)
        self.runtime.remove(found.id)
        raise Overtaken

    def _check_turn(self, container_id: str) -> None:
        """Stop wins: what people want is read again before anything runs."""
        fresh = Replica.objects.select_related("model").filter(id=self.replica.id).first()
        if fresh and fresh.wanted and fresh.model.turn == self.replica.turn:
            return
        self.runtime.remove(container_id)
        if self.attempt:
            self._end(self.attempt, "Overtaken by a newer order.", failed=False)
        raise Overtaken

    def _stop(self, seen: Seen) -> bool:
        replica, attempt = self.replica, self.attempt
        reason, failed = self._why_stop(seen)
        if attempt and not seen.container:  # still fetching: there is nothing to stop
            self._end(attempt, reason, failed=False)
        if not seen.container:
            return replica.observe(Observed.ABSENT, reason)
        grace = ContainerSpec.model_validate(attempt.spec).stop_grace if attempt and attempt.spec else 10.0
        if attempt and failed:
            attempts.keep_words(attempt, self.runtime, seen.container)
            self._end(attempt, reason, failed=True)
        replica.observe(Observed.STOPPING, reason)
        self.runtime.stop(seen.container.id, grace)
        return True

    def _why_stop(self, seen: Seen) -> tuple[str, bool]:
        """In words, and whether it counts as a failure."""
        if not self.replica.wanted:
            return "Stopped by order.", False
        if seen.observed is Observed.UNRESPONSIVE:
            return seen.reason, True
        if seen.observed is Observed.LOADING and self._is_overdue(seen):
            return "It did not become ready before its deadline.", True
        return "Replaced by a newer definition.", False

    def _remove(self, seen: Seen) -> bool:
        replica, container = self.replica, seen.container
        if container is None:
            return False
        if self.attempt:
            before = replica.transitions.filter(new=Observed.EXITED).first()
            by_us = not replica.wanted or (before is not None and before.old == Observed.STOPPING)
            ordered = replica.reason or "Stopped by order." if by_us else ""
            attempts.end_exited(self.attempt, self.runtime, container, ordered=ordered)
            replica.observe(Observed.EXITED, self.attempt.reason)
        self.runtime.remove(container.id)
        return True

    def _end(self, attempt: Attempt, reason: str, *, failed: bool) -> None:
        attempt.replica = self.replica
        attempts.end(attempt, reason, failed=failed)

    def _fail(self, reason: str, remedy: str, *, permanent: bool) -> bool:
        """A start that failed before anything ran."""
        replica = self.replica
        attempt = self.attempt or attempts.begin(replica, replica.model.image)
        attempt.replica = replica
        self._discard()
        attempts.end(attempt, reason, remedy=remedy, failed=True, permanent=permanent)
        replica.observe(Observed.ABSENT, f"{reason} {remedy}".strip())
        return True

    def _discard(self) -> None:
        """Leave no container of a failed start behind."""
        left = self.runtime.inspect(self.replica.container_name)
        if left and left.labels.get(Label.REPLICA) == self.replica.id.hex:
            self.runtime.remove(left.id)

    def _blame_host(self, fault: NoGpuRuntime) -> bool:
        """No GPU runtime is the host's condition: nothing is counted against the model."""
        self._discard()
        if self.attempt:
            self._end(self.attempt, str(fault), failed=False)
        host = self.replica.host
        if host:
            host.gpu_condition = str(fault)
            host.save(update_fields=["gpu_condition"])
        return self._wait(f"Host {host} cannot give GPUs to containers. {fault}", RETRY_HOST)

    def _wait(self, reason: str, delay: timedelta) -> bool:
        replica = self.replica
        replica.retry_at = clock.now() + delay
        replica.save(update_fields=["retry_at"])
        replica.observe(Observed.ABSENT, reason)
        return False
