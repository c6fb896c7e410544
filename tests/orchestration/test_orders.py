"""The verbs of people: one transaction, who and when, and nothing half-written."""

from collections.abc import Callable
from typing import Any

import pytest

from cortex.access.models import Person
from cortex.catalog.definition import Refusal
from cortex.catalog.models import Model, Order
from cortex.orchestration import orders

pytestmark = pytest.mark.django_db

Define = Callable[..., Model]


def test_every_order_is_written_down_with_who_gave_it(define: Define, bob: Person) -> None:
    define()
    orders.stop("tiny", bob)
    assert [(order.verb, order.by_name, order.turn) for order in Order.objects.all()] == [
        ("stop", "bob", 2),
        ("define", "cortex", 1),
    ]


def test_saying_the_same_again_changes_nothing(define: Define) -> None:
    assert define().turn == define().turn
    assert Order.objects.count() == 1


def test_a_refused_definition_writes_nothing(define: Define) -> None:
    define()
    with pytest.raises(Refusal):
        define(options={"unheard_of": 1})
    assert Model.objects.get().turn == 1


def test_a_taken_name_is_refused_only_when_it_is_to_be_new(define: Define) -> None:
    define()
    data = {"name": "tiny", "engine": "llamacpp", "source": {"path": "tiny.gguf"}}
    with pytest.raises(Refusal) as caught:
        orders.define(data, None, new=True)
    assert caught.value.status == 409


def test_a_change_of_what_somebody_else_changed_is_refused(define: Define) -> None:
    define()
    orders.stop("tiny", None)
    with pytest.raises(Refusal) as caught:
        orders.revise("tiny", {"users": 3}, None, expected_turn=1)
    assert caught.value.status == 412
    assert Model.objects.get().users is None


def test_two_patches_at_once_both_count(define: Define, monkeypatch: pytest.MonkeyPatch) -> None:
    define()
    real = orders.define
    raced: list[bool] = []

    def race(*args: Any, **kwargs: Any) -> Any:
        if not raced:
            raced.append(True)
            real({"name": "tiny", "engine": "llamacpp", "source": {"path": "tiny.gguf"}, "context": 512}, None)
        return real(*args, **kwargs)

    monkeypatch.setattr(orders, "define", race)
    orders.revise("tiny", {"users": 3}, None)
    model = Model.objects.get()
    assert (model.context, model.users) == (512, 3)


def test_a_patch_with_null_takes_a_field_back(define: Define) -> None:
    define(context=512)
    orders.revise("tiny", {"context": None}, None)
    assert Model.objects.get().context is None


def test_the_name_stays(define: Define) -> None:
    define()
    with pytest.raises(Refusal, match="keeps its name"):
        orders.revise("tiny", {"name": "other"}, None)


def test_nobody_orders_what_does_not_exist() -> None:
    with pytest.raises(orders.NoSuchModel, match="nope"):
        orders.start("nope", None)
