"""Verdicts and fixes on imagined hosts: what is told to fit fits, what is offered helps."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cortex import placement
from cortex.calculator.calibration import Measured
from cortex.calculator.shape import Shape
from cortex.calculator.unreadable import UnreadableModel
from cortex.catalog.definition import Definition, Refusal, parse
from cortex.catalog.estimates import Past, Unknown, ask, plan, terms_of
from cortex.catalog.forecast import Fix, Forecast, forecast
from tests.calculator.shapes import published
from tests.weights import put_safetensors

GIB = 1 << 30
MIB = 1 << 20
LLAMA = "llama-3.1-8b.gguf"


def wish(engine: str = "llamacpp", **more: Any) -> Definition:
    return parse({"name": "one", "engine": engine, "source": {"path": LLAMA}, "context": 8192, "users": 4, **more})


def read(definition: Definition) -> Shape:
    return published()[definition.source.path]


def atlas(*cards: tuple[float, float], memory: int = 128 * GIB) -> placement.Host:
    """Cards of so many GiB in all and free."""
    made = [placement.Card(f"GPU-{n}", "L40S", int(t * GIB), int(f * GIB)) for n, (t, f) in enumerate(cards)]
    return placement.Host("atlas", cards=made, memory=memory)


def on(host: placement.Host, definition: Definition) -> Forecast:
    return forecast(definition, host, read=read)


@pytest.mark.parametrize(
    ("definition", "cards", "verdict"),
    [
        (wish(), [(24, 24)], "fits"),
        (wish(), [(24, 8.5)], "tight"),
        (wish(), [(24, 4)], "does_not_fit"),
        (wish(context=131072, users=1), [(16, 16), (16, 16)], "fits"),
        (wish(gpus=2), [(24, 24)], "does_not_fit"),
        (wish("vllm"), [(24, 24)], "fits"),
        (wish("vllm"), [(24, 20)], "does_not_fit"),
        (wish("vllm", options={"gpu_memory_utilization": 0.2}), [(24, 24)], "does_not_fit"),
        (wish("vllm", options={"gpu_memory_utilization": 0.29}), [(24, 24)], "tight"),
        (wish(gpus=0), [(24, 24)], "fits"),
        (wish(), [], "fits"),
    ],
)
def test_verdicts(definition: Definition, cards: list[tuple[float, float]], verdict: str) -> None:
    found = on(atlas(*cards), definition)
    assert (found.verdict, bool(found.reason)) == (verdict, True)


def applied(definition: Definition, fix: Fix) -> Definition:
    options = {**definition.options, **fix.patch.get("options", {})}
    return parse(definition.model_copy(update={**fix.patch, "options": options}).model_dump())


@pytest.mark.parametrize(
    ("definition", "cards", "titles"),
    [
        (wish(context=131072, users=2), [(24, 24)], ["cache in q8_0", "Shorten the context", "layers on the GPU"]),
        (wish("vllm"), [(48, 30)], ["Take 20% of the GPU"]),
        (wish("vllm", options={"gpu_memory_utilization": 0.2}), [(24, 24)], ["Take 40% of the GPU"]),
        (wish(gpus=1, context=131072), [(48, 48), (48, 48)], ["Split it over 2 GPUs"]),
    ],
)
def test_every_fix_makes_it_fit_once_applied(
    definition: Definition, cards: list[tuple[float, float]], titles: list[str]
) -> None:
    host = atlas(*cards)
    found = on(host, definition)
    assert found.verdict == "does_not_fit"
    for title in titles:
        assert any(title in fix.title for fix in found.fixes), [fix.title for fix in found.fixes]
    for fix in found.fixes:
        assert on(host, applied(definition, fix)).verdict in ("fits", "tight"), fix


@settings(max_examples=25, deadline=None)
@given(
    context=st.sampled_from([512, 4096, 32768, 131072]),
    users=st.sampled_from([1, 3, 8]),
    sizes=st.lists(st.integers(4, 48), min_size=1, max_size=3),
    engine=st.sampled_from(["llamacpp", "vllm"]),
)
def test_what_fits_is_what_placement_would_seat(context: int, users: int, sizes: list[int], engine: str) -> None:
    definition, host = wish(engine, context=context, users=users), atlas(*((size, size) for size in sizes))
    found = on(host, definition)
    answer = placement.on_host(ask(definition, len(sizes), read=read).need, host)
    assert isinstance(answer, placement.Seats) == (found.verdict != "does_not_fit")
    if isinstance(answer, placement.Seats):
        assert answer.by_card == {each.card.uuid: each.claim for each in found.cards if each.chosen}


def test_the_longest_context_fits_and_one_step_more_does_not() -> None:
    host = atlas((24, 24))
    longest = on(host, wish()).longest_context
    assert longest
    assert on(host, wish(context=longest)).verdict != "does_not_fit"
    assert on(host, wish(context=longest + 256)).verdict == "does_not_fit"


def test_an_unreadable_model_is_unknown_and_nothing_is_zero() -> None:
    def fail(definition: Definition) -> Shape:
        raise UnreadableModel("one.gguf is damaged", "it is empty.", "Fetch it again.")

    found = forecast(wish(), atlas((24, 24)), read=fail)
    assert (found.verdict, found.reason, found.remedy) == (
        "unknown", "one.gguf is damaged: it is empty.", "Fetch it again."
    )  # fmt: skip
    assert (found.host, found.disk, found.longest_context, found.cards[0].need) == (None, None, None, None)


def test_memory_of_a_host_that_nobody_knows_is_unknown() -> None:
    assert on(atlas(memory=0), wish(gpus=0)).verdict == "unknown"
    assert on(atlas(memory=4 * GIB), wish(gpus=0)).verdict == "does_not_fit"


def test_options_that_contradict_the_gpus_are_refused_in_words() -> None:
    with pytest.raises(Refusal, match="is not the model's 2 GPUs"):
        on(atlas((24, 24)), wish("vllm", gpus=2, options={"tensor_parallel_size": 4}))


def test_an_earlier_start_on_another_number_of_cards_corrects_nothing() -> None:
    first = plan(wish(), 1, read=read)
    then = terms_of(first)
    past = Past("L40S", 1, Measured({"compute": 2 * then[0]["compute"]}), then)
    assert plan(wish(), 1, [past], read).past is past
    assert plan(wish(), 2, [past], read).past is None
    [compute] = [t for t in plan(wish(), 1, [past], read).estimate.gpus[0].terms if t.name == "compute"]
    assert compute.likely == 2 * then[0]["compute"]


def test_a_correction_grows_with_what_it_corrects() -> None:
    then = terms_of(plan(wish(), 1, read=read))
    past = Past("L40S", 1, Measured({"compute": 2 * then[0]["compute"]}), then)
    larger = wish(options={"ubatch_size": 2048})
    before = {term.name: term.likely for term in plan(larger, 1, read=read).estimate.gpus[0].terms}
    after = {term.name: term.likely for term in plan(larger, 1, [past], read).estimate.gpus[0].terms}
    assert before["compute"] > 2 * then[0]["compute"]
    assert after["compute"] == pytest.approx(2 * before["compute"], rel=0.001)


def test_a_card_that_others_filled_meanwhile_corrects_nothing() -> None:
    then = terms_of(plan(wish(), 1, read=read))
    took = sum(then[0].values())
    for used, likely in ((took + 512 * MIB, took + 512 * MIB), (took + 20 * GIB, took)):
        past = Past("L40S", 1, Measured({}, devices=(used,)), then)
        assert plan(wish(), 1, [past], read).estimate.gpus[0].likely == pytest.approx(likely, abs=MIB)


def test_a_draft_model_among_the_arguments_is_read_and_counted(models_folder: Path) -> None:
    big, small = (put_safetensors(models_folder, name) for name in ("big", "small"))

    def planned(model: str) -> dict[str, int]:
        words = json.dumps({"model": f"/models/{model}", "num_speculative_tokens": 3})
        options = {"extra_args": ["--speculative-config", words]} if model else {}
        definition = parse(
            {"name": "one", "engine": "vllm", "source": {"path": big}, "context": 4096, "options": options}
        )
        return terms_of(plan(definition, 1))[0]

    alone, both = planned(""), planned(small)
    weights = sum(each.stat().st_size for each in (models_folder / small).glob("*.safetensors"))
    assert both["weights"] - alone["weights"] == weights
    assert both["kv_cache"] == 2 * alone["kv_cache"]
    with pytest.raises(Unknown, match="/models/nobody is loaded as well"):
        planned("nobody")
