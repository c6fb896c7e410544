"""Several models on one set of cards: what they take, where, and what other settings would save."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cortex.calculator.memory import Card
from cortex.calculator.stacks import CONTEXT, Wish, beside, needs, scenarios, stack_plan
from engines.habits import LlamaOptions, ServeOptions
from tests.calculator.shapes import published

GIB = 1 << 30
MODELS = published()
CHAT = Wish("chat", MODELS["qwen3-8b.gguf"], {1: ServeOptions(batched_tokens=2048)}, 16384, 4, present=0.9)
EMBED = Wish("embed", MODELS["bge-m3.gguf"], {1: LlamaOptions()}, 8192, 1)
GIANT = Wish("giant", MODELS["deepseek-v3.gguf"], {1: LlamaOptions()}, 4096, 1)
SPREAD = Wish(
    "spread",
    MODELS["qwen2.5-72b.gguf"],
    {count: ServeOptions(tensor=count, batched_tokens=2048) for count in (1, 2, 4)},
    8192,
    2,
    present=0.9,
)


def test_a_stack_shares_one_card_and_says_what_it_frees() -> None:
    stack = stack_plan([CHAT, EMBED, GIANT], [Card(48 * GIB)])
    assert {share.name for share in stack.shares} == {"chat", "embed"}
    assert stack.refused == ("giant",)
    assert stack.freed > 20 * GIB
    assert stack.left[0] == 48 * GIB - stack.total - CONTEXT


def test_a_giant_does_not_keep_many_small_ones_out() -> None:
    small = [replace(CHAT, name=f"chat-{number}", context=4096, users=1) for number in range(3)]
    [need] = needs(small[0], 1, [Card(80 * GIB)])
    room = 3 * (need + beside(small[0]) + GIB)
    large = replace(CHAT, name="large", context=CHAT.context, users=4)
    assert needs(large, 1, [Card(80 * GIB)])[0] + beside(large) <= room
    stack = stack_plan([large, *small], [Card(room)])
    assert {share.name for share in stack.shares} == {each.name for each in small}
    assert stack.refused == ("large",)


def test_a_model_too_large_for_a_card_is_spread_over_as_few_as_will_do() -> None:
    [share] = stack_plan([SPREAD], [Card(48 * GIB)] * 4).shares
    assert (share.cards, len(set(share.parts))) == ((0, 1), 1)
    [wide] = stack_plan([SPREAD], [Card(24 * GIB)] * 4).shares
    assert wide.cards == (0, 1, 2, 3)
    assert stack_plan([SPREAD], [Card(24 * GIB)] * 3).refused == ("spread",)


def test_unlike_cards_are_joined_only_where_alike_ones_do_not_do() -> None:
    cards = [Card(80 * GIB), Card(48 * GIB), Card(48 * GIB)]
    [alike] = stack_plan([replace(SPREAD, ways={2: SPREAD.ways[2]})], cards).shares
    assert alike.cards == (1, 2)
    [mixed] = stack_plan([replace(SPREAD, ways={2: SPREAD.ways[2]})], cards[:2]).shares
    assert mixed.cards == (0, 1)
    assert mixed.parts[0] / cards[0].total == pytest.approx(mixed.parts[1] / cards[1].total, rel=1e-6)
    assert min(mixed.parts) >= max(needs(SPREAD, 2, cards))


def test_layers_split_over_cards_take_their_own_part_of_each() -> None:
    wish = Wish("split", MODELS["qwen2.5-72b.gguf"], {count: LlamaOptions() for count in (1, 2, 4)}, 4096, 1)
    [share] = stack_plan([wish], [Card(48 * GIB)] * 2).shares
    assert share.parts == needs(wish, 2, [Card(48 * GIB)] * 2)
    assert share.parts[0] != share.parts[1]


def test_scenarios_stand_side_by_side_and_the_present_one_saves_nothing() -> None:
    found = {each.title: each for each in scenarios([CHAT, EMBED], [Card(48 * GIB)])}
    assert found["As set now"].parts["chat"] == int(0.9 * 48 * GIB)
    assert found["As set now"].freed == 0
    enough, narrow, half = (
        found[title] for title in ("Just what it needs", "With the cache in 8 bits", "With half the context")
    )
    assert enough.total > narrow.total
    assert enough.total > half.total
    for each in (enough, narrow, half):
        assert each.total + each.freed == found["As set now"].total
        assert each.total == sum(size or 0 for size in each.parts.values())
    assert "With 8 bits made of 16-bit weights" not in found
    sixteen = replace(CHAT, shape=replace(CHAT.shape, quantization="BF16"))
    assert "With 8 bits made of 16-bit weights" in {each.title for each in scenarios([sixteen], [Card(48 * GIB)])}


def test_a_model_without_room_has_no_bytes_in_a_scenario() -> None:
    found = scenarios([CHAT, GIANT], [Card(48 * GIB)])
    assert {each.parts["giant"] for each in found[1:]} == {None}


def test_each_process_on_a_card_has_a_context_of_its_own() -> None:
    """Four times 24 % would leave 2 GiB of 48, and four contexts take 2.4."""
    options = ServeOptions(batched_tokens=2048, weight_bytes=10 * GIB)
    four = [Wish(f"m{n}", MODELS["qwen3-8b.gguf"], {1: options}, 256, 1) for n in range(4)]
    found = stack_plan(four, [Card(48 * GIB)])
    assert {share.fraction for share in found.shares} == {0.24}
    assert len(found.refused) == 1


def test_a_model_and_its_embedder_reranker_and_sparse_encoder_share_cards_in_part_used() -> None:
    encoder = replace(MODELS["bge-m3.gguf"], causal=False)
    small = [
        Wish(name, encoder, {1: ServeOptions(users=8)}, 512, 8, present=0.9) for name in ("embed", "rank", "splade")
    ]
    stack = stack_plan([CHAT, *small], [Card(24 * GIB, free=10 * GIB), Card(16 * GIB)])
    assert not stack.refused
    assert {share.name: share.cards for share in stack.shares}["chat"] == (1,)
    assert all(share.bytes < 3 * GIB for share in stack.shares if share.name != "chat")
    assert min(stack.left) >= 0


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from([CHAT, EMBED, SPREAD, GIANT]), min_size=1, max_size=4, unique_by=lambda wish: wish.name),
    st.lists(st.sampled_from([8, 24, 48, 80]), min_size=1, max_size=4),
)
def test_no_card_is_promised_more_than_it_has(wishes: list[Wish], sizes: list[int]) -> None:
    cards = [Card(size * GIB) for size in sizes]
    stack = stack_plan(wishes, cards)
    assert {share.name for share in stack.shares} | set(stack.refused) == {wish.name for wish in wishes}
    for index, card in enumerate(cards):
        taken = sum(
            part for share in stack.shares for at, part in zip(share.cards, share.parts, strict=True) if at == index
        )
        own = sum(beside(wish) for wish in wishes for share in stack.shares
                  if share.name == wish.name and index in share.cards)  # fmt: skip
        assert taken + own + stack.left[index] == card.total
        assert stack.left[index] >= 0
    for share in stack.shares:
        [wish] = [wish for wish in wishes if wish.name == share.name]
        assert all(part >= need for part, need in zip(share.parts, needs(wish, len(share.cards), cards), strict=True))
