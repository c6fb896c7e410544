import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cortex.calculator.answers import (
    best_fraction,
    changes,
    holds,
    longest_context,
    most_users,
)
from cortex.calculator.memory import Card, Estimate, Need, estimate
from cortex.calculator.serving import options_from, pool_of, request_bytes, tokens_held
from cortex.calculator.shape import LayerWeights
from cortex.calculator.weights import rank_weights
from engines.habits import LlamaOptions, ServeOptions
from tests.calculator.shapes import published

GIB = 1 << 30
NAMES = sorted(published())
some_model = st.sampled_from(NAMES)
contexts = st.integers(1, 1 << 17)


def needs(answer: Estimate) -> list[Need]:
    return [*answer.gpus, answer.host]


def least(answer: Estimate) -> int:
    return sum(need.likely for need in needs(answer))


@settings(max_examples=60, deadline=None)
@given(
    some_model,
    contexts,
    st.integers(1, 16),
    st.sampled_from([32, 512, 2048]),
    st.sampled_from(["f16", "q8_0", "q4_0"]),
    st.integers(0, 4),
    st.integers(0, 100),
    st.booleans(),
    st.booleans(),
)
def test_every_term_is_finite_and_not_negative(
    name: str, context: int, slots: int, ubatch: int, kind: str, cards: int, layers: int, flash: bool, unified: bool
) -> None:
    options = LlamaOptions(
        context=context, slots=slots, ubatch=ubatch, key_type=kind, gpu_layers=layers, flash=flash, unified=unified
    )
    answer = estimate(published()[name], options, [Card(24 * GIB)] * cards)
    assert len(answer.gpus) == cards
    for need in needs(answer):
        for term in need.terms:
            assert 0 <= term.low <= term.likely <= term.high
            assert math.isfinite(term.high)
            assert term.reason


@settings(max_examples=60, deadline=None)
@given(some_model, contexts, contexts, st.integers(1, 8))
def test_more_context_never_needs_less(name: str, one: int, other: int, slots: int) -> None:
    shape = published()[name]
    short, long = (LlamaOptions(context=slots * each, slots=slots) for each in sorted((one, other)))
    before, after = (estimate(shape, each, [Card(GIB)]).gpus[0] for each in (short, long))
    caches = [sum(term.likely for term in need.terms if term.name in ("kv_cache", "state")) for need in (before, after)]
    assert caches[0] <= caches[1]
    served = [request_bytes(shape, ServeOptions(), each) for each in sorted((one, other))]
    assert served[0] <= served[1]


@settings(max_examples=40, deadline=None)
@given(some_model, st.integers(256, 8192), st.integers(1, 8))
def test_more_users_never_need_less(name: str, context: int, users: int) -> None:
    shape = published()[name]
    one, more = (LlamaOptions(context=context * each, slots=each) for each in (users, users + 1))
    caches = [
        sum(
            term.likely
            for term in estimate(shape, each, [Card(GIB)]).gpus[0].terms
            if term.name in ("kv_cache", "state")
        )
        for each in (one, more)
    ]
    assert caches[0] <= caches[1]


@settings(max_examples=40, deadline=None)
@given(some_model, st.integers(0, 99))
def test_more_layers_on_the_card_never_need_less_of_it(name: str, layers: int) -> None:
    shape = published()[name]
    few, more = (
        estimate(shape, LlamaOptions(context=4096, gpu_layers=each), [Card(GIB)]) for each in (layers, layers + 1)
    )
    weights = [sum(term.likely for term in each.gpus[0].terms if term.name != "compute") for each in (few, more)]
    assert weights[0] <= weights[1]


@settings(max_examples=40, deadline=None)
@given(some_model, st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 3]))
def test_splits_never_sum_to_less_than_the_whole(name: str, tensor: int, pipeline: int) -> None:
    shape = published()[name]
    whole = rank_weights(shape, ServeOptions())
    assert tensor * pipeline * rank_weights(shape, ServeOptions(tensor=tensor, pipeline=pipeline)) >= 0.99 * whole


@settings(max_examples=40, deadline=None)
@given(some_model, st.integers(0, 1 << 36), st.integers(0, 1 << 30))
def test_a_larger_budget_never_holds_fewer_tokens(name: str, budget: int, more: int) -> None:
    shape = published()[name]
    options = ServeOptions(context=8192)
    assert tokens_held(shape, options, budget) <= tokens_held(shape, options, budget + more)


def test_vllm_pages_of_a_hybrid_grow_to_its_state() -> None:
    """A 27B model with 48 linear layers at 262,144 tokens, 8-bit cache, two cards: vLLM logged 619,202 tokens."""
    shape = published()["qwen3.5-27b.gguf"]
    options = ServeOptions(context=262144, tensor=2, cache_type="fp8_e5m2", state_pages=2)
    assert tokens_held(shape, options, round(9.84 * GIB)) == 619202


def test_heads_are_copied_when_there_are_more_ranks() -> None:
    shape = published()["qwen3-30b-a3b.gguf"]
    assert request_bytes(shape, ServeOptions(tensor=8), 4096) == request_bytes(shape, ServeOptions(tensor=4), 4096)


def test_the_longest_context_fits_and_a_longer_one_does_not() -> None:
    shape, cards = published()["llama-3.1-8b.gguf"], [Card(12 * GIB)]
    for options in (LlamaOptions(), ServeOptions(batched_tokens=2048)):
        longest = longest_context(shape, options, cards, 4)
        assert longest > 0
        assert holds(shape, options, cards, longest, 4)
        assert not holds(shape, options, cards, longest + 256, 4)


def test_no_context_at_all_is_zero_and_not_an_error() -> None:
    assert longest_context(published()["deepseek-v3.gguf"], LlamaOptions(), [Card(8 * GIB)]) == 0
    assert most_users(published()["deepseek-v3.gguf"], ServeOptions(), [Card(8 * GIB)], 4096) == 0


def test_the_most_users_fit_and_one_more_does_not() -> None:
    shape, cards = published()["llama-3.1-8b.gguf"], [Card(24 * GIB)]
    users = most_users(shape, LlamaOptions(), cards, 8192)
    assert holds(shape, LlamaOptions(), cards, 8192, users)
    assert not holds(shape, LlamaOptions(), cards, 8192, users + 1)


def test_changes_that_fit_come_first_and_really_fit() -> None:
    shape, cards = published()["qwen2.5-32b.gguf"], [Card(24 * GIB)]
    found = changes(shape, LlamaOptions(context=65536), cards)
    assert found[0].fits
    assert [change.fits for change in found] == sorted((change.fits for change in found), reverse=True)
    for change in found:
        assert change.fits == estimate(shape, change.options, cards[: change.cards]).fits(cards)
    assert {"Keep the cache in q8_0"} <= {change.title for change in found}


def test_a_share_of_a_card_follows_from_bytes() -> None:
    shape, card = published()["llama-3.1-8b.gguf"], Card(24 * GIB)
    share = best_fraction(shape, ServeOptions(), card, 8192, 4)
    assert share is not None
    assert 0.3 < share < 0.6
    assert best_fraction(shape, ServeOptions(), card, 131072, 64) is None


@pytest.mark.parametrize("options", [LlamaOptions(context=4096), ServeOptions(context=4096)])
def test_an_estimate_without_cards_is_for_the_processor(options: LlamaOptions | ServeOptions) -> None:
    answer = estimate(published()["llama-3.1-8b.gguf"], options, [])
    assert answer.host.likely > 0


def test_command_lines_of_engines_are_read() -> None:
    arguments = ["--max-model-len", "32k", "--tensor-parallel-size=2", "--kv-cache-dtype", "fp8", "--enforce-eager"]
    options = options_from("vllm", [*arguments, "--served-model-name", "x", "--gpu-memory-utilization", "0.8"])
    assert options == ServeOptions(context=32000, tensor=2, cache_type="fp8", eager=True, fraction=0.8)
    assert options_from("sglang", ["--tp", "4"]) == ServeOptions(engine="sglang", tensor=4, fraction=0.0)
    assert options_from("tgi", ["--num-shard", "2", "--max-total-tokens", "8192"]).context == 8192
    with pytest.raises(ValueError, match="not a number"):
        options_from("vllm", ["--max-model-len", "long"])


def test_a_budget_in_bytes_replaces_the_share() -> None:
    shape = published()["llama-3.1-8b.gguf"]
    answer = estimate(shape, ServeOptions(context=8192, cache_bytes=4 * GIB), [Card(80 * GIB)])
    assert answer.yields is not None
    assert answer.yields.tokens == 4 * GIB // 131072


def test_kinds_of_nearly_equal_number_share_groups_of_the_larger() -> None:
    """vLLM cuts 10 full and 12 windowed layers in two groups of 12, and 10 and 50 in six groups of 10."""
    base = published()["llama-3.1-8b.gguf"]
    for windowed, groups in ((12, (1, 1)), (50, (1, 5))):
        layers = (base.layers[0],) * 10 + (replace(base.layers[0], window=1024),) * windowed
        pool = pool_of(replace(base, layers=layers), ServeOptions(), 64 * GIB)
        assert pool.groups == groups


def test_a_tied_head_is_copied_to_the_last_stage() -> None:
    shape = published()["llama-3.2-3b.gguf"]
    layers = sum(layer.weights.total for layer in shape.layers)
    share = layers // 2 + shape.embedding
    assert rank_weights(shape, ServeOptions(pipeline=2)) == pytest.approx(share, rel=0.01)
    last_larger = replace(shape, layers=(replace(shape.layers[0], weights=LayerWeights()), shape.layers[1]))
    assert rank_weights(last_larger, ServeOptions(pipeline=2)) >= shape.layers[1].weights.total + shape.embedding


def test_without_shares_layers_follow_what_each_card_has_free() -> None:
    shape = published()["llama-3.1-8b.gguf"]
    cards = [Card(24 * GIB, 18 * GIB), Card(24 * GIB, 6 * GIB)]
    shared = estimate(shape, LlamaOptions(context=4096, split=(3, 1)), cards)
    assert estimate(shape, LlamaOptions(context=4096), cards) == shared
    assert estimate(shape, LlamaOptions(context=4096), [Card(GIB)] * 2) != shared


def test_further_files_and_kept_prompts_are_terms() -> None:
    options = LlamaOptions(context=4096, draft_bytes=GIB, prompt_cache=512)
    answer = estimate(published()["llama-3.1-8b.gguf"], options, [Card(24 * GIB)])
    draft = next(term for term in answer.gpus[0].terms if term.name == "draft_model")
    assert draft.low == GIB < draft.likely < draft.high
    kept = next(term for term in answer.host.terms if term.name == "prompt_cache")
    assert (kept.likely, kept.high) == (0, GIB // 2)


def test_a_graph_nobody_compared_gets_a_margin_and_says_so() -> None:
    shape = published()["llama-3.1-8b.gguf"]
    sure, unsure = (
        next(term for term in estimate(each, LlamaOptions(context=4096), [Card(24 * GIB)]).gpus[0].terms
             if term.name == "compute")
        for each in (shape, replace(shape, family="unheard-of"))
    )  # fmt: skip
    assert unsure.likely > 1.05 * sure.likely
    assert "never compared" in unsure.reason
