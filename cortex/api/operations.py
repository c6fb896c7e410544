"""How far an order has come: derived from the model's turn and its replicas, stored nowhere."""

import time
from threading import BoundedSemaphore

from django.db import connection

from cortex.api import answers, shapes
from cortex.catalog.models import Model, Order
from cortex.fleet.models import Replica
from cortex.fleet.status import status

LOOK_EVERY = 0.5
WAITING_AT_ONCE = 24
KEEPS_FAILING = 3
_places = BoundedSemaphore(WAITING_AT_ONCE)


def operation(order: Order) -> shapes.OperationAnswer:
    """The order with its state as of now."""
    state, phase, reason, remedy = _progress(order)
    given = answers.order(order).model_dump()
    return shapes.OperationAnswer(
        **given, model=order.model_name, state=state, phase=phase, reason=reason, remedy=remedy
    )


def wait_for(order: Order, seconds: float) -> shapes.OperationAnswer:
    """Look again until it is no longer pending, or the time is up. Holds no connection while it sleeps.

    At most WAITING_AT_ONCE requests of a process wait; the others are answered at once, and ask again.
    """
    until = time.monotonic() + seconds
    found = operation(order)
    if not _places.acquire(blocking=False):
        return found
    try:
        while found.state == "pending" and time.monotonic() < until:
            _let_go()
            time.sleep(min(LOOK_EVERY, max(0.0, until - time.monotonic())))
            order.refresh_from_db()
            found = operation(order)
    finally:
        _places.release()
    return found


def _let_go() -> None:
    """The connection is back in its pool while nobody needs it."""
    if not connection.in_atomic_block:
        connection.close()


def _progress(order: Order) -> tuple[shapes.State, str, str, str]:
    model = answers.with_replicas(Model.objects.filter(id=order.model_id)).first() if order.model_id else None
    if model is None:
        return ("done" if order.verb == "remove" else "overtaken"), "stopped", "The model is gone.", ""
    replicas = list(model.replica_set.all())
    how = status(model, replicas)
    if model.turn > order.turn:
        return "overtaken", how.phase, "A later order took its place.", ""
    latest = answers.latest_attempts(replicas)
    remedy = next((latest[r.id].remedy for r in replicas if r.failures and r.id in latest), "")
    if order.verb != "remove" and answers.is_settled(model, replicas, latest):
        return "done", how.phase, how.reason, ""
    failing = [replica for replica in replicas if replica.wanted and replica.turn == model.turn and _fails(replica)]
    if not failing:
        return "pending", how.phase, how.reason, remedy
    if any(replica.gave_up for replica in failing):
        return "failed", how.phase, how.reason, remedy
    return "failed", how.phase, *_why(max(failing, key=lambda replica: replica.failures))


def _fails(replica: Replica) -> bool:
    """Given up, or tried in vain so often that nobody ought to sit and wait for the next try."""
    return replica.gave_up or replica.failures >= KEEPS_FAILING


def _why(replica: Replica) -> tuple[str, str]:
    """The reason and the remedy of what keeps failing, whatever its latest try does at this moment."""
    last = replica.attempts.exclude(ended_at=None).defer("first_log", "last_log", "spec").first()
    said = f" The last time: {last.reason}" if last else ""
    return f"It failed {replica.failures} times in a row, and is tried again.{said}", last.remedy if last else ""
