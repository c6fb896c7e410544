"""Estimates as this door tells them. Sizes are bytes; null is what cannot be known."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from cortex.api.bodies import Answer, Body

VERDICT = "fits; tight: the likely need is free, the highest is not; does_not_fit; unknown: nobody can tell."


class CardRequest(Body):
    """A card to reckon with, real or not."""

    name: str = Field("", max_length=100)
    total: int = Field(ge=0, le=1 << 50)
    free: int | None = Field(None, ge=0, le=1 << 50, description="All of it when left out.")


class HostRequest(Body):
    """An imagined host."""

    cards: list[CardRequest] = Field(default=[], max_length=64)
    memory: int = Field(0, ge=0, le=1 << 50, description="Bytes of its own memory; 0: not known.")


class EstimateRequest(Body):
    """A definition, or the name of a model; on an imagined host, or where Cortex would put it."""

    model: str = Field("", max_length=200, description="Name of a model.")
    definition: dict[str, Any] | None = Field(
        None, description="A definition, as PUT takes it; its name may be left out."
    )
    host: HostRequest | None = Field(None, description="Left out: the host where placement would put it now.")


class StackRequest(Body):
    """Several models on one set of cards."""

    definitions: list[dict[str, Any]] = Field(min_length=1, max_length=64)
    host: HostRequest | None = Field(None, description="Left out: the host with most free GPU memory, as if empty.")


class TermAnswer(Answer):
    """One part of a need: how much at least, likely, at most, and where the figure comes from."""

    name: str
    low: int
    likely: int
    high: int
    reason: str


class NeedAnswer(Answer):
    """All terms, and their sums."""

    low: int
    likely: int
    high: int
    terms: list[TermAnswer]


class CardEstimateAnswer(Answer):
    """A card, and what the model would hold of it; `need` is null where it would hold nothing."""

    gpu: str
    name: str
    total: int
    free: int
    held: dict[str, int] = Field(description="Who was promised how much of it.")
    foreign: int = Field(description="Used outside Cortex.")
    need: NeedAnswer | None
    claim: int = Field(description="What would be promised: the likely need, or the engine's share of the card.")
    chosen: bool = Field(description="Whether placement would take this card now.")
    verdict: str = Field(description=VERDICT)
    reason: str


class YieldsAnswer(Answer):
    """What an engine that fills a budget gets for it."""

    cache: int = Field(description="Bytes of cache on the card that has least.")
    tokens: int
    users: float = Field(description="How many may use the whole context at once.")


class ChangeAnswer(Answer):
    """A change that makes it fit: a JSON merge patch, ready to apply."""

    title: str
    patch: dict[str, Any]
    fits: bool


class PastAnswer(Answer):
    """An earlier start of the same weights: what had been foretold, and what it took."""

    at: datetime
    model: str
    image: str
    card: str
    gpus: int
    estimated: list[dict[str, int]] = Field(description="Likely bytes by term, per card.")
    measured: dict[str, int] = Field(description="Bytes by term, from the engine's log.")
    tokens: int | None
    devices: list[int] = Field(description="Bytes used per card once it was ready; empty where others used it too.")


class EstimateAnswer(Answer):
    """What a definition will take, and whether that is free."""

    verdict: Literal["fits", "tight", "does_not_fit", "unknown"] = Field(description=VERDICT)
    reason: str
    remedy: str
    goes_to: str | None = Field(description="The host that has room for it now; null while none has.")
    in_the_way: list[str] = Field(description="Replicas, as model/slot, whose stopping would make room.")
    cards: list[CardEstimateAnswer]
    host: NeedAnswer | None = Field(description="Of the host's own memory.")
    host_memory: int | None
    disk: int | None
    yields: YieldsAnswer | None
    longest_context: int | None = Field(description="Tokens each user could have on these cards.")
    most_users: int | None = Field(description="How many could have the wanted context at once.")
    changes: list[ChangeAnswer]
    assumptions: list[str]
    corrected_by: str | None = Field(description="When the earlier start was that this estimate follows.")
    history: list[PastAnswer]


class ShareAnswer(Answer):
    """One model of a stack."""

    name: str
    gpus: list[str]
    bytes: int = Field(description="On all its cards.")
    parts: list[int] = Field(description="On each of its cards.")
    fraction: float = Field(description="Of each card's total, at most.")
    freed: int = Field(description="Bytes less than its present settings claim.")
    patch: dict[str, Any] = Field(description="Merge patch that makes it take just this; empty when it does already.")


class LeftAnswer(Answer):
    gpu: str
    name: str
    total: int
    left: int


class ScenarioAnswer(Answer):
    """What the whole stack takes under some settings."""

    title: str
    parts: dict[str, int | None] = Field(description="Bytes by model; null where it found no room.")
    total: int
    freed: int = Field(description="Against the present settings, of the models that found room.")


class BesideAnswer(Answer):
    """What one model of a stack takes of the host's own memory."""

    name: str
    bytes: int
    on_processor: bool = Field(description="It runs on no GPU: this is all it needs.")


class HostStackAnswer(Answer):
    """The host's own memory under a stack."""

    total: int = Field(description="Bytes that the models take together.")
    memory: int | None = Field(description="Bytes that the host has; null where that is not known.")
    parts: list[BesideAnswer]


class StackAnswer(Answer):
    """Where each model goes, what that leaves, what it saves."""

    verdict: Literal["fits", "does_not_fit"]
    shares: list[ShareAnswer]
    refused: list[str] = Field(description="Models that found no room.")
    cards: list[LeftAnswer]
    total: int = Field(description="Bytes that all of them take on the cards.")
    freed: int
    host: HostStackAnswer
    scenarios: list[ScenarioAnswer] = Field(description="The same models under other settings, side by side.")
