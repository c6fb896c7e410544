"""Measurements that cannot be: an estimate is never worse for them than without any."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cortex.calculator.calibration import Measured
from cortex.catalog.definition import Definition
from cortex.catalog.estimates import Past, Plan, plan, terms_of
from tests.catalog.test_forecast import read, wish

GIB = 1 << 30
KINDS: dict[str, Definition] = {"llamacpp": wish(), "vllm": wish("vllm")}
sizes = st.sampled_from([-(1 << 60), -1, 0, 1, 1 << 20, GIB, 60 * GIB, 1 << 49, 1 << 62])


def measured(kind: str, terms: dict[str, int], devices: tuple[int, ...] = ()) -> Plan:
    before = plan(KINDS[kind], 1, read=read)
    return plan(KINDS[kind], 1, [Past("L40S", 1, Measured(terms, devices=devices), terms_of(before))], read)


def total(of: Plan) -> int:
    return of.estimate.gpus[0].likely


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(KINDS)),
    st.dictionaries(st.sampled_from(["weights", "compute", "activation", "cuda_graphs", "kv_cache", "runtime"]), sizes),
    st.lists(sizes, max_size=1).map(tuple),
)
def test_no_measurement_makes_nonsense_of_an_estimate(
    kind: str, terms: dict[str, int], devices: tuple[int, ...]
) -> None:
    found = measured(kind, terms, devices)
    for term in found.estimate.gpus[0].terms:
        assert 0 <= term.low <= term.likely <= term.high
    assert 0.4 * total(plan(KINDS[kind], 1, read=read)) < total(found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factor", [-1, 0, 0.01, 0.2, 40, 1e9])
def test_weights_that_files_contradict_are_not_believed(kind: str, factor: float) -> None:
    alone = plan(KINDS[kind], 1, read=read)
    weights = int(factor * terms_of(alone)[0]["weights"])
    assert total(measured(kind, {"weights": weights})) == total(alone)


def test_weights_that_an_engine_padded_are_believed() -> None:
    alone = plan(KINDS["vllm"], 1, read=read)
    foretold = terms_of(alone)[0]["weights"]
    assert total(measured("vllm", {"weights": int(1.87 * foretold)})) > total(alone) + 0.8 * foretold


def test_more_than_the_card_held_was_measured_on_no_card() -> None:
    alone = plan(KINDS["vllm"], 1, read=read)
    assert total(measured("vllm", {"activation": 90 * GIB}, (44 * GIB,))) == total(alone)


def test_a_peak_that_surprises_is_believed_when_the_card_was_seen() -> None:
    """A model that sees pictures took 36.6 GiB for one batch of them."""
    alone = plan(KINDS["vllm"], 1, read=read)
    terms: dict[str, Any] = {"activation": int(36.63 * GIB), "weights": terms_of(alone)[0]["weights"]}
    seen, unseen = measured("vllm", terms, (72 * GIB,)), measured("vllm", terms)
    assert total(seen) > 35 * GIB > total(unseen)
