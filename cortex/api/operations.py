"""How far an order has come: derived from the model's turn and its replicas, stored nowhere."""

import time
from threading import BoundedSemaphore

from django.db import close_old_connections

from cortex.api import answers, shapes
from cortex.catalog.models import Model, Order
from cortex.fleet.status import status

LOOK_EVERY = 0.5
WAITING_AT_ONCE = 24
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
            close_old_connections()
            time.sleep(min(LOOK_EVERY, max(0.0, until - time.monotonic())))
            order.refresh_from_db()
            found = operation(order)
    finally:
        _places.release()
    return found


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
    if order.verb != "remove" and answers.is_settled(model, how, replicas, latest):
        return "done", how.phase, how.reason, ""
    gave_up = any(replica.gave_up and replica.wanted and replica.turn == model.turn for replica in replicas)
    return ("failed" if gave_up else "pending"), how.phase, how.reason, remedy
