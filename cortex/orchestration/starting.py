"""START: files, seats, attempt, container, in an order that survives a crash after each."""

from datetime import timedelta

from pydantic import ValidationError

from cortex.calculator.unreadable import UnreadableModel
from cortex.catalog import files
from cortex.catalog.definition import Refusal
from cortex.fleet.models import Attempt, Host, Install, Lack, Overtaken, Replica
from cortex.fleet.states import Observed
from cortex.orchestration import attempts, needs, plan, seats
from cortex.orchestration.effects import effect
from cortex.orchestration.observe import Seen
from cortex.orchestration.work import Work, is_of
from cortex.runtime.contract import (
    Container,
    Label,
    NameTaken,
    NoGpuRuntime,
    NotFound,
    RuntimeFault,
    State,
    Unreachable,
)
from engines.contract import ContainerSpec

RETRY_HOST = timedelta(seconds=30)
RETRY_ROOM = timedelta(seconds=5)


def start(work: Work, seen: Seen) -> bool:
    """Whether another look is due."""
    try:
        return _resume(work, seen.container) if seen.container else _launch(work)
    except seats.NoSeat as why:
        return _give_room_up(work, why)
    except seats.Busy as why:
        with effect("observe absent"):
            work.replica.observe(Observed.ABSENT, str(why))
        return False
    except NoGpuRuntime as fault:
        return _blame_host(work, fault)
    except UnreadableModel as error:
        return _cannot_read(work, error)
    except (Refusal, ValidationError) as error:
        return _fail(work, str(error), "Correct the definition.", permanent=True)
    except (Unreachable, NotFound):
        raise
    except RuntimeFault as fault:
        return _fail(work, fault.what, fault.remedy, permanent=fault.permanent)


def _launch(work: Work) -> bool:
    replica = work.replica
    found = plan.locate(replica)
    gpus: tuple[str, ...] = ()
    if found:
        with effect("take seats"):
            gpus = seats.take(replica, found.size)
    image = plan.image(replica, gpus=bool(gpus) if found else plan.on_cards(replica))
    with effect("begin attempt"):
        work.attempt = attempt = attempts.begin(replica, image)
    if found is None or not work.runtime.has_image(image):
        return _fetch(work, attempt, f"image {image}" if found else f"{replica.model.repository} from the hub")
    seats.launch(replica)
    wanted = plan.wanted(replica, found, gpus)
    _note(attempt, wanted, needs.told(replica, wanted.size, len(gpus)))
    return _run(work, attempt, _create(work, attempt, wanted.spec))


def _fetch(work: Work, attempt: Attempt, what: str) -> bool:
    attempt.stamp("fetching_at")
    with effect("observe fetching"):
        work.replica.observe(Observed.FETCHING, f"Fetching {what}.")
    return False


def _resume(work: Work, container: Container) -> bool:
    """A container that was made and not started: go on when it is still the right one, else begin anew."""
    attempt = work.attempt
    if attempt and attempt.confirmed_turn == work.replica.turn:
        _keep_id(attempt, container.id)
        return _run(work, attempt, container.id)
    with effect("remove"):
        work.runtime.remove(container.id)
    work.end(attempts.OVERTAKEN, failed=False)
    return True


def _run(work: Work, attempt: Attempt, container_id: str) -> bool:
    _check_turn(work, container_id)
    with effect("start"):
        work.runtime.start(container_id)
    attempt.stamp("started_at")
    with effect("observe loading"):
        work.replica.observe(Observed.LOADING, "Its process starts.")
    return True


def absolve_host(work: Work, container: Container) -> None:
    """A container runs with GPUs: so the host can give them."""
    host = work.replica.host
    if container.gpus and container.state is State.RUNNING and host and host.toolkit_condition:
        Host.objects.filter(id=host.id).update(toolkit_condition="", gpu_condition="")


def _note(attempt: Attempt, wanted: plan.Wanted, estimated: dict[str, object]) -> None:
    attempt.spec = wanted.spec.model_dump(mode="json")
    attempt.fingerprint = wanted.spec.fingerprint()
    attempt.image, attempt.bytes_to_load, attempt.estimated = wanted.spec.image, wanted.size, estimated
    with effect("note spec"):
        attempt.save(update_fields=["spec", "fingerprint", "image", "bytes_to_load", "estimated"])


def _create(work: Work, attempt: Attempt, spec: ContainerSpec) -> str:
    replica = work.replica
    labels = {
        Label.INSTALL: Install.identity(),
        Label.REPLICA: replica.id.hex,
        Label.MODEL: replica.model.name,
        Label.TURN: str(replica.turn),
        Label.FINGERPRINT: attempt.fingerprint,
        Label.ATTEMPT: str(attempt.number),
    }
    try:
        with effect("create"):
            container_id = work.runtime.create(replica.container_name, spec, labels)
    except NameTaken:
        container_id = _adopt(work)
    _keep_id(attempt, container_id)
    return container_id


def _keep_id(attempt: Attempt, container_id: str) -> None:
    attempt.container_id = container_id
    with effect("note container"):
        attempt.save(update_fields=["container_id"])
        attempt.stamp("created_at")


def _adopt(work: Work) -> str:
    """The container that bears our name already: ours of an earlier, cut-off call, or a stranger's."""
    found = work.runtime.inspect(work.replica.container_name)
    if found is None:
        raise Overtaken("The container that bore our name is gone.")
    if not is_of(found, work.replica):
        remedy = "Remove or rename that container by hand; Cortex never touches what is not its own."
        raise RuntimeFault(f"A container that is not ours bears the name {found.name}.", remedy)
    if not work.claims(found):
        raise Overtaken("A container of another attempt bears our name.")
    return found.id


def _check_turn(work: Work, container_id: str) -> None:
    """Stop wins: what people want is read again before anything runs."""
    fresh = Replica.objects.select_related("model").filter(id=work.replica.id).first()
    if fresh and fresh.wanted and fresh.model.turn == work.replica.turn:
        return
    with effect("remove"):
        work.runtime.remove(container_id)
    work.end(attempts.OVERTAKEN, failed=False)
    raise Overtaken("People changed their mind before it was started.")


def _fail(work: Work, reason: str, remedy: str, *, permanent: bool) -> bool:
    """A start that failed before anything ran."""
    replica = work.replica
    work.attempt = work.attempt or attempts.begin(replica, plan.image(replica, gpus=plan.on_cards(replica)))
    _discard(work)
    work.end(reason, remedy=remedy, failed=True, permanent=permanent)
    with effect("observe absent"):
        replica.observe(Observed.ABSENT, f"{reason} {remedy}".strip())
    return True


def _discard(work: Work) -> None:
    """Leave no container of a failed start behind."""
    left = work.owned()
    if left:
        with effect("remove"):
            work.runtime.remove(left.id)


def _blame_host(work: Work, fault: NoGpuRuntime) -> bool:
    """No GPU runtime is the host's condition: nothing is counted against the model."""
    _discard(work)
    work.end(str(fault), failed=False)
    host = work.replica.host
    if host:
        Host.objects.filter(id=host.id).update(toolkit_condition=str(fault), gpu_condition=str(fault))
    return work.wait(f"Host {host} cannot give GPUs to containers. {fault}", RETRY_HOST)


def _give_room_up(work: Work, why: seats.NoSeat) -> bool:
    """Somebody took the room meanwhile: wait, free to be placed elsewhere."""
    work.end(f"There was no room. {why}", failed=False)
    work.wait(f"Waits for room. {why}", RETRY_ROOM, why.why.in_the_way)
    return _leave_host(work)


def _cannot_read(work: Work, error: UnreadableModel) -> bool:
    if isinstance(error, files.Missing):
        return _go_elsewhere(work, error)
    return _fail(work, f"{error.what}: {error.why}", error.remedy, permanent=True)


def _go_elsewhere(work: Work, missing: files.Missing) -> bool:
    """The host says that it lacks the files, and is not chosen for them again until it takes that back."""
    host = work.replica.host
    reason = f"On host {host}, {missing.what}: {missing.why} {missing.remedy}"
    if host:
        with effect("note lack"):
            Lack.objects.update_or_create(host=host, path=work.replica.model.path, defaults={"reason": reason})
    work.end(reason, failed=False)
    work.wait(reason, timedelta(0))
    with effect("free seats"):
        seats.free(work.replica)
    return _leave_host(work)


def leave(work: Work, seen: Seen) -> bool:
    """Nothing starts here any more: what was made goes, its seats are free, and it is placed elsewhere."""
    if seen.container:
        with effect("remove"):
            work.runtime.remove(seen.container.id)
        return True
    reason = work.replica.host.closed if work.replica.host else ""
    work.end(reason, failed=False)
    with effect("observe absent"):
        work.replica.observe(Observed.ABSENT, reason)
    with effect("free seats"):
        seats.free(work.replica)
    return _leave_host(work)


def _leave_host(work: Work) -> bool:
    with effect("leave host"):
        Replica.objects.filter(id=work.replica.id, turn=work.replica.turn, seats=None, memory=0).update(host=None)
    return False
