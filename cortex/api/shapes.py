"""What this door answers and takes: types that check, render and document at once. Sizes are bytes."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field, RootModel

from cortex.api.bodies import Answer, Body
from cortex.api.estimate_shapes import EstimateAnswer
from cortex.catalog.definition import Definition

State = Literal["pending", "done", "failed", "overtaken"]


class SeatAnswer(Answer):
    """Memory promised on a card."""

    gpu: str = Field(description="The card's UUID.")
    index: int
    name: str
    bytes: int


class AttemptAnswer(Answer):
    """One start of a replica: times, exit facts, why it ended. Bytes are of image and weights on their way."""

    number: int
    turn: int
    image: str
    container_id: str
    bytes_done: int
    bytes_total: int
    queued_at: datetime
    fetching_at: datetime | None
    created_at: datetime | None
    started_at: datetime | None
    weights_loaded_at: datetime | None = Field(description="From the engine's log; null where it does not tell.")
    cache_sized_at: datetime | None = Field(description="From the engine's log; null where it does not tell.")
    ready_at: datetime | None
    first_token_at: datetime | None = Field(description="When it first answered somebody through the gateway.")
    ended_at: datetime | None
    exit_code: int | None
    oom_killed: bool
    failure: int = Field(description="Which failure in a row it was: 1 is the first of a crash loop, 0 none.")
    reason: str
    remedy: str


class AttemptLogAnswer(AttemptAnswer):
    """An attempt with what its container printed first and last."""

    replica: int = Field(description="The replica's slot.")
    first_log: str
    last_log: str


class ReplicaAnswer(Answer):
    """One slot of a model on one host."""

    id: UUID
    slot: int
    replaces: UUID | None = Field(description="The replica of the earlier definition that serves until this one does.")
    host: str | None
    gpus: list[SeatAnswer]
    wanted: bool
    observed: str
    observed_at: datetime | None
    phase: str
    reason: str
    in_the_way: list[str] = Field(description="Replicas, as model/slot, whose stopping would make room for it.")
    remedy: str = Field(description="What to do about the latest failure; empty when there is none.")
    address: str
    failures: int
    retry_at: datetime | None
    gave_up: bool
    attempt: AttemptAnswer | None = Field(description="The latest.")
    first_failure: AttemptAnswer | None = Field(description="What began its present row of failures.")


class StatusAnswer(Answer):
    """How a model is, from its replicas."""

    phase: str
    reason: str
    ready: int
    wanted: int
    settled: bool = Field(description="Whether what runs is what this turn wants.")
    replicas: list[ReplicaAnswer]


class ModelAnswer(Answer):
    """A model: what people want of it (spec, which PUT takes as it is) and how it is (status)."""

    name: str
    spec: Definition
    status: StatusAnswer
    turn: int = Field(description="Goes up when people change what they want; the ETag.")
    created_at: datetime
    updated_at: datetime


class NamelessDefinition(Definition):
    """A definition whose name may be left out: the address says it."""

    name: str = Field("", description="The name in the address, or left out.")


class FieldChange(Answer):
    """One field of a definition, before and after; null where there was none."""

    field: str
    before: Any
    after: Any


class PlanAnswer(Answer):
    """What a write would do. Nothing was written."""

    dry_run: Literal[True] = True
    name: str
    created: bool
    changes: list[FieldChange]
    restarts: bool = Field(description="Whether running containers would be replaced.")
    turn: int = Field(description="The turn this was compared with; 0 when the model is new. Send it as If-Match.")
    estimate: EstimateAnswer = Field(description="What it would take, and whether that is free.")


class ModelOrPlan(RootModel[ModelAnswer | PlanAnswer]):
    """The model as it is now; with `dry_run`, what would change."""


class OrderAnswer(Answer):
    """What somebody asked for."""

    id: int
    verb: str
    by: str
    turn: int
    changes: dict[str, Any]
    at: datetime


class OperationAnswer(OrderAnswer):
    """An order and how far it has come."""

    model: str
    state: State = Field(
        description=(
            "failed: given up until somebody changes something, or tried three times in vain and tried again. "
            "overtaken: a later order took its place."
        )
    )
    phase: str
    reason: str
    remedy: str


class GpuAnswer(Answer):
    """A card. `free` is what nobody uses and nobody was promised."""

    uuid: str
    host: str
    index: int
    name: str
    total: int
    used: int
    reserved: int
    free: int
    utilisation: int | None
    temperature: int | None
    power: float | None
    missing: bool
    seen_at: datetime | None
    models: list[str]


class StayingAnswer(Answer):
    """A replica that has not left a host that is drained."""

    replica: str = Field(description="As model/slot.")
    model: str
    reason: str
    in_the_way: list[str] = Field(description="Replicas, as model/slot, whose stopping would make room elsewhere.")
    pinned: bool = Field(description="Its model may run nowhere else: it stays until somebody changes or stops that.")


class DrainAnswer(Answer):
    """How far a drain has come: `left` of `total` replicas are gone from there."""

    since: datetime
    total: int
    left: int
    staying: list[StayingAnswer]


class HostAnswer(Answer):
    """A container engine; `condition` and `gpu_condition` say what is wrong."""

    name: str
    answering: bool
    cores: int
    memory: int
    version: str
    machine: str = Field(description="The name its container engine gives.")
    labels: dict[str, str]
    condition: str
    gpu_condition: str
    pretend: bool
    cordoned: bool = Field(description="Nothing new is placed there; what runs stays.")
    draining: bool = Field(description="Nothing new is placed there, and what runs moves elsewhere.")
    drain: DrainAnswer | None = Field(description="How far that has come; null while nobody wants it empty.")
    gpus: int
    replicas: int
    strays: int = Field(description="Containers there that nobody claims.")
    seen_at: datetime | None


class StrayAnswer(Answer):
    """A container of this install that no replica claims."""

    id: int
    host: str
    container: str = Field(description="Its name.")
    container_id: str
    model: str = Field(description="What its label says; that model may be gone.")
    first_seen_at: datetime
    removed_after: datetime = Field(
        description="It goes by itself after this, where few are found beside much that is claimed."
    )
    confirmed: bool = Field(description="Somebody said that it is to go now.")


class EngineAnswer(Answer):
    """A kind of server."""

    name: str
    title: str
    summary: str
    image: str
    formats: list[str]
    tasks: list[str]


class KeyAnswer(Answer):
    """A key; its secret is shown once, when it is issued."""

    id: int
    name: str
    prefix: str
    owner: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class IssuedKeyAnswer(KeyAnswer):
    """A new key. Keep the secret now: nobody can show it again."""

    secret: str


class KeyRequest(Body):
    """A key to issue. Administrators may issue for others."""

    name: str = Field(min_length=1, max_length=100, description="What it is for.")
    scopes: list[Literal["infer", "manage"]] = Field(default=["infer"], min_length=1)
    owner: str | None = Field(None, description="Somebody else's user name; your own when left out.")
    expires_at: datetime | None = None


class FileAnswer(Answer):
    """Weights below the models folder."""

    path: str = Field(description="What a definition's source.path says.")


class LiveAnswer(Answer):
    live: bool


class CheckAnswer(Answer):
    ok: bool
    detail: str


class HealthAnswer(Answer):
    """Whether this process can do its work. A silent broker is told and fails nothing."""

    ready: bool
    checks: dict[str, CheckAnswer]


class WrongField(Answer):
    pointer: str = Field(description="JSON pointer into the body, or ?parameter.")
    detail: str
    remedy: str


class ProblemAnswer(Answer):
    """application/problem+json (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    errors: list[WrongField]
    remedy: str
    request_id: str
