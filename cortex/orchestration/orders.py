"""The verbs people have: each changes what is wanted, in one transaction with who and when, and pokes the loop."""

from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from cortex.access.models import Person
from cortex.catalog import files
from cortex.catalog.definition import Definition, Problem, Refusal, describe, parse
from cortex.catalog.models import Desired, Model, Order
from cortex.orchestration.tasks import poke

CHANGED_MEANWHILE = 412


class NoSuchModel(LookupError):
    """No model bears this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no model named {name!r}.")
        self.name = name


def define(
    data: Mapping[str, Any], by: Person | None, *, new: bool = False, expected_turn: int | None = None
) -> tuple[Model, bool]:
    """Create or replace a definition; (model, whether it was created). Raises Refusal and writes nothing then.

    `new` refuses a name that is taken. `expected_turn` refuses to overwrite what somebody else changed.
    """
    definition = parse(data)
    files.check(definition)
    try:
        with transaction.atomic():
            return _save(definition, by, new=new, expected_turn=expected_turn)
    except IntegrityError as error:  # somebody took the name between the look and the insert
        raise _taken(definition.name) from error


def revise(name: str, patch: Mapping[str, Any], by: Person | None, *, expected_turn: int | None = None) -> Model:
    """Change parts of a definition (a JSON merge patch). Raises NoSuchModel, Refusal.

    Without `expected_turn` it is applied to whatever the definition is by then: two patches at once both count.
    """
    if patch.get("name", name) != name:
        problem = Problem("/name", "A model keeps its name.", "Define a new model under the new name instead.")
        raise Refusal("The name cannot be changed.", [problem])
    while True:
        model = _get(name)
        merged = merge(describe(model).model_dump(mode="json"), patch)
        try:
            return define(merged, by, expected_turn=model.turn if expected_turn is None else expected_turn)[0]
        except Refusal as refusal:
            if refusal.status != CHANGED_MEANWHILE or expected_turn is not None:
                raise


def start(name: str, by: Person | None) -> Model:
    """It is to run. Earlier failures are forgiven. Raises NoSuchModel."""
    return _order(name, "start", by)


def stop(name: str, by: Person | None) -> Model:
    """It is to stop, whatever it does now. Raises NoSuchModel."""
    return _order(name, "stop", by)


def restart(name: str, by: Person | None) -> Model:
    """It is to run, in new containers. Raises NoSuchModel."""
    return _order(name, "restart", by)


def remove(name: str, by: Person | None) -> Model:
    """It is to be no more: its containers go first, then its row. The name is free at once. Raises NoSuchModel."""
    return _order(name, "remove", by)


def _order(name: str, verb: str, by: Person | None) -> Model:
    with transaction.atomic():
        model = _get(name, lock=True)
        match verb:
            case "start" | "restart":
                model.desired = Desired.RUNNING
            case "stop":
                model.desired = Desired.STOPPED
            case "remove":
                model.desired, model.removed_at = Desired.STOPPED, timezone.now()
        model.next_turn(fresh=verb == "restart")
        model.save()
        _record(model, verb, by, {})
        return model


def _save(definition: Definition, by: Person | None, *, new: bool, expected_turn: int | None) -> tuple[Model, bool]:
    model = Model.objects.declared().select_for_update().filter(name=definition.name).first()
    if model and new:
        raise _taken(definition.name)
    if expected_turn is not None and (model.turn if model else 0) != expected_turn:
        problem = Problem(
            "", "Somebody changed this model since you read it.", "Read it again, then repeat the change."
        )
        raise Refusal("The model has changed meanwhile.", [problem], status=CHANGED_MEANWHILE)
    before = describe(model).model_dump(mode="json") if model else {}
    created = model is None
    model = model or Model(name=definition.name, turn=0, fresh_turn=0)
    _write(model, definition)
    after = describe(model).model_dump(mode="json")
    if after != before:
        model.next_turn()
        model.save()
        changes = {key: value for key, value in after.items() if before.get(key) != value}
        _record(model, "define" if created else "revise", by, changes)
    return model, created


def _write(model: Model, definition: Definition) -> None:
    source = definition.source
    model.repository, model.revision, model.path = source.repository, source.revision, source.path
    model.engine, model.options, model.image = definition.engine, definition.options, definition.image
    model.context, model.users, model.gpus = definition.context, definition.users, definition.gpus
    model.replicas = definition.replicas
    model.placement = definition.placement.model_dump(mode="json", exclude_defaults=True)
    if definition.desired:
        model.desired = Desired(definition.desired)


def _record(model: Model, verb: str, by: Person | None, changes: dict[str, Any]) -> None:
    Order.objects.create(
        model=model,
        model_name=model.name,
        verb=verb,
        by=by,
        by_name=by.username if by else "cortex",
        turn=model.turn,
        changes=changes,
    )
    transaction.on_commit(lambda: poke(model.id))


def _get(name: str, *, lock: bool = False) -> Model:
    try:
        return Model.objects.locked(name) if lock else Model.objects.declared().get(name=name)
    except Model.DoesNotExist:
        raise NoSuchModel(name) from None


def _taken(name: str) -> Refusal:
    problem = Problem("/name", f"A model named {name!r} exists.", "Choose another name, or change that model.")
    return Refusal("The name is taken.", [problem], status=409)


def merge(current: Any, patch: Any) -> Any:
    """A JSON merge patch applied (RFC 7396)."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(current) if isinstance(current, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged
