"""Where a replica goes: by table, and whatever the cards are."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from cortex.placement import Card, Choice, Host, Need, NoRoom, Seats, choose, place
from cortex.sizes import GIB


def card(number: int, free: int, total: int = 48, **more: object) -> Card:
    return Card(f"GPU-{number}", "L40S", total * GIB, free * GIB, **more)  # type: ignore[arg-type]


def seats(**gib: int) -> Seats:
    return Seats({f"GPU-{name[1:]}": size * GIB for name, size in gib.items()})


@pytest.mark.parametrize(
    ("need", "cards", "answer"),
    [
        (Need(10 * GIB), [card(0, 48), card(1, 12)], seats(g1=10)),
        (Need(10 * GIB, spread=True), [card(0, 48), card(1, 12)], seats(g0=10)),
        (Need(10 * GIB, gpus=2), [card(0, 48), card(1, 12)], seats(g0=5, g1=5)),
        (Need(60 * GIB), [card(0, 48), card(1, 48)], seats(g0=30, g1=30)),
        (Need(120 * GIB), [card(n, 48) for n in range(4)], seats(g0=30, g1=30, g2=30, g3=30)),
        (Need(10 * GIB, gpus=0), [card(0, 48)], Seats({})),
        (Need(10 * GIB), [], Seats({})),
        (Need(10 * GIB, pinned=frozenset({"GPU-0"})), [card(0, 48), card(1, 12)], seats(g0=10)),
        (Need(10 * GIB), [card(0, 48), card(1, 12, missing=True)], seats(g0=10)),
        (Need(10 * GIB, gpus=2), [card(0, 9), card(1, 40, total=80), card(2, 20), card(3, 30)], seats(g0=5, g2=5)),
    ],
)
def test_it_takes_the_cards_that_suit(need: Need, cards: list[Card], answer: Seats) -> None:
    assert place(need, cards) == answer


@pytest.mark.parametrize(
    ("need", "cards", "says"),
    [
        (Need(50 * GIB, gpus=1), [card(0, 48)], "L40S (GPU-0) has only 48.0 GiB."),
        (Need(40 * GIB, gpus=1), [card(0, 8, held={"qwen/0": 40 * GIB})], "has 8.0 GiB of 48.0 GiB free: qwen/0 holds"),
        (Need(40 * GIB, gpus=1), [card(0, 8, held={"qwen/0": 40 * GIB})], "It would fit if qwen/0 stopped."),
        (Need(40 * GIB, gpus=1), [card(0, 8, foreign=40 * GIB, pids=(77,))], "used outside Cortex (process 77)"),
        (Need(1, gpus=1), [card(0, 48, missing=True)], "is gone"),
        (Need(1, gpus=1), [], "This host has no GPU."),
        (Need(1, gpus=2), [card(0, 48)], "too few like it are free"),
        (Need(1, gpus=1, pinned=frozenset({"GPU-9"})), [card(0, 48)], "There is no GPU GPU-9 here."),
        (Need(1, gpus=1, pinned=frozenset({"GPU-9"})), [card(0, 48)], "not one of those it is pinned to"),
        (Need(1, gpus=3, divides=32), [card(n, 48) for n in range(3)], "32 attention heads cannot be divided over 3"),
        (Need(60 * GIB, gpus=1), [card(n, 48) for n in range(2)], "Each of L40S (GPU-0) and L40S (GPU-1) has only 48"),
        (Need(2 * GIB, gpus=2), [card(0, 48), card(1, 80, total=80)], "too few like it are free"),
    ],
)
def test_a_refusal_names_each_card_and_why_not(need: Need, cards: list[Card], says: str) -> None:
    answer = place(need, cards)
    assert isinstance(answer, NoRoom)
    assert says in str(answer)


def test_a_trace_of_foreign_memory_is_not_told_as_nothing() -> None:
    crowded = place(Need(40 * GIB, gpus=1), [card(0, 8, held={"a/0": 40 * GIB}, foreign=GIB // 100)])
    assert str(crowded).endswith("a/0 holds 40.0 GiB. It would fit if a/0 stopped.")


def test_the_fewest_are_named_that_would_have_to_stop() -> None:
    crowded = card(0, 0, held={"a/0": 20 * GIB, "b/0": 28 * GIB})
    single = card(1, 8, held={"c/0": 40 * GIB})
    answer = place(Need(40 * GIB, gpus=1), [crowded, single])
    assert isinstance(answer, NoRoom)
    assert answer.in_the_way == ("c/0",)


@pytest.mark.parametrize(
    ("need", "hosts", "answer"),
    [
        (Need(GIB), [Host("a", [card(0, 48)], load=3), Host("b", [card(1, 48)])], "b"),
        (Need(40 * GIB), [Host("a", [card(0, 8)]), Host("b", [card(1, 48)], load=9)], "b"),
        (Need(GIB), [Host("a", fault="Host a is cordoned."), Host("b", load=9)], "b"),
        (Need(GIB, labels={"zone": "x"}), [Host("a"), Host("b", labels={"zone": "x"})], "b"),
        (Need(GIB, gpus=0), [Host("a", [card(0, 48)]), Host("b", load=9)], "b"),
        (Need(9 * GIB), [Host("a", memory=8 * GIB), Host("b", memory=16 * GIB, load=1)], "b"),
        (Need(60 * GIB, gpus=2), [Host("a", [card(0, 48)]), Host("b", [card(1, 48), card(2, 48)])], "b"),
    ],
)
def test_a_host_is_chosen(need: Need, hosts: list[Host], answer: str) -> None:
    chosen = choose(need, hosts)
    assert isinstance(chosen, Choice)
    assert chosen.host == answer


@pytest.mark.parametrize(
    ("need", "hosts", "says"),
    [
        (Need(GIB), [], "There is no host."),
        (Need(GIB), [Host("a", fault="Host a is cordoned.")], "cordoned"),
        (Need(GIB, labels={"zone": "moon"}), [Host("a")], "not labelled zone=moon"),
        (Need(99 * GIB, gpus=0), [Host("a", memory=8 * GIB)], "the host has 8.0 GiB"),
        (
            Need(60 * GIB, gpus=2),
            [Host("a", [card(0, 48)]), Host("b", [card(1, 48)])],
            "On b: It needs 30.0 GiB",
        ),
        (Need(40 * GIB), [Host("a", [card(0, 8)]), Host("b")], "On b: It has no GPU. Ask for 0"),
    ],
)
def test_no_host_will_do_and_each_says_why(need: Need, hosts: list[Host], says: str) -> None:
    answer = choose(need, hosts)
    assert isinstance(answer, NoRoom)
    assert says in str(answer)


cards = some.lists(
    some.builds(
        Card,
        uuid=some.uuids().map(str),
        name=some.sampled_from(["L40S", "H200"]),
        total=some.sampled_from([48 * GIB, 80 * GIB]),
        free=some.integers(0, 48 * GIB),
        missing=some.booleans(),
        held=some.dictionaries(some.sampled_from("abcd"), some.integers(0, 20 * GIB)),
    ),
    max_size=6,
)
needs = some.builds(
    Need,
    bytes=some.integers(0, 200 * GIB),
    gpus=some.none() | some.integers(0, 5),
    divides=some.none() | some.sampled_from([8, 12, 32]),
    spread=some.booleans(),
)


@given(need=needs, cards=cards)
def test_seats_are_always_room_that_is_there(need: Need, cards: list[Card]) -> None:
    answer = place(need, cards)
    by_uuid = {card.uuid: card for card in cards}
    if isinstance(answer, NoRoom):
        assert all(card.label in str(answer) for card in cards) or "divided" in str(answer)
        return
    chosen = [by_uuid[uuid] for uuid in answer.by_card]
    assert all(not card.missing and card.free >= answer.by_card[card.uuid] for card in chosen)
    assert not chosen or sum(answer.by_card.values()) >= need.bytes
    assert need.gpus is None or len(chosen) == need.gpus
    assert len({(card.name, card.total) for card in chosen}) <= 1
    assert need.divides is None or not chosen or need.divides % len(chosen) == 0


@given(need=needs, cards=cards)
def test_it_fits_once_those_in_the_way_are_gone(need: Need, cards: list[Card]) -> None:
    answer = place(need, cards)
    if isinstance(answer, NoRoom) and answer.in_the_way:
        gone = set(answer.in_the_way)
        emptier = [
            Card(c.uuid, c.name, c.total, c.free + sum(c.held[n] for n in gone & set(c.held)), c.missing) for c in cards
        ]
        assert isinstance(place(need, emptier), Seats)


@pytest.mark.parametrize(
    ("need", "says"),
    [
        (Need(1, hosts=frozenset({"far"})), "There is no host far. On one: Host one is not one of those it may go to"),
        (Need(1, hosts=frozenset({"one"}), labels={"zone": "b"}), "On one: Host one is not labelled zone=b."),
        (Need(1, labels={"zone": "c"}), "On two: Host two is not labelled zone=c."),
        (Need(1, pinned=frozenset({"GPU-7"})), "There is no GPU GPU-7 here."),
    ],
)
def test_a_wish_that_nobody_meets_is_refused_host_by_host(need: Need, says: str) -> None:
    hosts = [Host("one", [card(0, 48)], labels={"zone": "a"}), Host("two", [card(1, 48)])]
    answer = choose(need, hosts)
    assert isinstance(answer, NoRoom)
    assert says in str(answer)


@pytest.mark.parametrize(
    "need",
    [Need(1, hosts=frozenset({"two"})), Need(1, labels={"zone": "b"}), Need(1, pinned=frozenset({"GPU-1"}))],
)
def test_a_wish_that_one_host_meets_goes_there(need: Need) -> None:
    hosts = [Host("one", [card(0, 48)]), Host("two", [card(1, 48)], load=9, labels={"zone": "b"})]
    assert choose(need, hosts) == Choice("two", Seats({"GPU-1": 1}))
