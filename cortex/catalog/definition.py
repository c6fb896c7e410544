"""The words of a definition and whether they make sense: one check for REST, the command line and the forms."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cortex.catalog.models import Model
from engines import UnknownEngine, all_engines, engine

NAME = re.compile(r"[a-z0-9]([a-z0-9._:-]{0,61}[a-z0-9])?")
CARD = re.compile(r"(GPU|MIG)-[\w./-]{1,76}", re.ASCII)
HOST = re.compile(r"[\w.-]{1,63}", re.ASCII)
LABEL = re.compile(r"[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?")
LABEL_VALUE = re.compile(r"[\w.:/-]{0,63}", re.ASCII)


@dataclass(frozen=True)
class Problem:
    """One thing wrong with what was asked: where (a JSON pointer), what and why, what to do next."""

    pointer: str
    detail: str
    remedy: str = ""


@dataclass
class Refusal(Exception):
    """An order that is not taken. Nothing was written."""

    title: str
    problems: list[Problem] = field(default_factory=list)
    status: int = 400

    def __str__(self) -> str:
        return " ".join([self.title, *(f"{p.pointer}: {p.detail} {p.remedy}".strip() for p in self.problems)])


class Source(BaseModel):
    """Where the weights come from: a hub repository, or a path below the models folder."""

    model_config = ConfigDict(extra="forbid")

    repository: str = Field("", max_length=200, description="Hub repository, as in `owner/name`.")
    revision: str = Field("", max_length=100, description="Branch, tag or commit of the repository.")
    path: str = Field(
        "", max_length=500, description="Folder or file below the models folder, or a file of the repository."
    )

    @field_validator("path")
    @classmethod
    def _is_relative(cls, path: str) -> str:
        if path.startswith("/") or ".." in path.split("/") or "\0" in path:
            raise ValueError("must be relative to the models folder, without '..'")
        return path.strip()

    @field_validator("repository")
    @classmethod
    def _names_owner_and_repository(cls, repository: str) -> str:
        if repository and not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", repository):
            raise ValueError("must look like owner/name")
        return repository

    @field_validator("revision")
    @classmethod
    def _is_a_revision(cls, revision: str) -> str:
        if revision and (not re.fullmatch(r"\w[\w.+/-]*", revision) or ".." in revision):
            raise ValueError("must be a branch, tag or commit")
        return revision

    @model_validator(mode="after")
    def _is_somewhere(self) -> Self:
        if not self.repository and not self.path:
            raise ValueError("give a repository or a path below the models folder")
        return self


def check_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Labels of a host, as people write them: `zone=cellar`. Raises ValueError."""
    for key, value in labels.items():
        if not LABEL.fullmatch(key) or not LABEL_VALUE.fullmatch(value):
            raise ValueError(
                f"{key[:70]}={value[:70]} is no label: a key is 1 to 63 lower-case letters, digits, dots, dashes, "
                "slashes and underscores, a value at most 63 letters, digits and . : / _ -"
            )
    return dict(labels)


class Placement(BaseModel):
    """Where a model may run. What is left empty does not matter."""

    model_config = ConfigDict(extra="forbid")

    cards: list[str] = Field(
        default_factory=list, max_length=64, description="UUIDs of the only GPUs that will do: `cortex gpus -o json`."
    )
    hosts: list[str] = Field(default_factory=list, max_length=64, description="Names of the only hosts that will do.")
    labels: dict[str, str] = Field(default_factory=dict, description="What its host must be labelled.")
    spread: bool = Field(False, description="Take the emptiest GPUs; else the fullest that have room.")

    @field_validator("cards")
    @classmethod
    def _are_uuids(cls, cards: list[str]) -> list[str]:
        return _all(cards, CARD, "is no GPU's UUID, which looks like GPU-5f1c0a7e-90d2-4b1e-8c33-1f0a6b7d2e40")

    @field_validator("hosts")
    @classmethod
    def _are_host_names(cls, hosts: list[str]) -> list[str]:
        return _all(hosts, HOST, "is no host's name: letters, digits, dots, dashes and underscores, 63 at most")

    @field_validator("labels")
    @classmethod
    def _are_labels(cls, labels: dict[str, str]) -> dict[str, str]:
        return check_labels(labels)


def _all(words: list[str], pattern: re.Pattern[str], what: str) -> list[str]:
    """Each of them once, in order. Raises ValueError for one that is not of this pattern."""
    for word in words:
        if not pattern.fullmatch(word):
            raise ValueError(f"{word[:90]!r} {what}")
    return list(dict.fromkeys(words))


class Definition(BaseModel):
    """What people write of a model. `desired` may be left out: then it stays as it is."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="Name under which the model is served.", examples=["tiny"])
    engine: str = Field(description="Which engine serves it.", examples=["llamacpp"])
    source: Source
    options: dict[str, Any] = Field(default_factory=dict, description="The engine's own options.")
    image: str = Field("", max_length=300, description="Container image instead of the engine's own.")
    context: int | None = Field(None, ge=1, le=100_000_000, description="Tokens one user needs at once.")
    users: int | None = Field(None, ge=1, le=100_000, description="Users served at the same time.")
    gpus: int | None = Field(
        None, ge=0, le=64, description="GPUs a replica takes; 0 is CPU only, none leaves it to Cortex."
    )
    replicas: int = Field(1, ge=0, le=1000, description="How many run side by side.")
    placement: Placement = Field(default_factory=Placement, description="Where it may run.")
    desired: Literal["running", "stopped"] | None = Field(None, description="Whether it is to run.")

    @field_validator("name")
    @classmethod
    def _is_a_served_name(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError(
                "1 to 63 lower-case letters, digits, dots, colons, dashes and underscores, "
                "beginning and ending with a letter or digit"
            )
        return name

    @field_validator("image")
    @classmethod
    def _is_an_image_reference(cls, image: str) -> str:
        if image and not re.fullmatch(r"[a-z0-9]([\w./:@-]*[\w])?", image):
            raise ValueError("must be an image reference such as registry/name:tag")
        return image


def parse(data: Mapping[str, Any]) -> Definition:
    """Words into a Definition whose engine and options are known to be good. Raises Refusal."""
    try:
        definition = Definition.model_validate(data)
    except ValidationError as error:
        raise Refusal("The definition is not valid.", [as_problem(e, "") for e in error.errors()]) from error
    problems = list(_contradictions(definition))
    if problems:
        raise Refusal("The definition contradicts itself.", problems)
    return definition.model_copy(update={"options": check_options(definition.engine, definition.options)})


def _contradictions(definition: Definition) -> Iterator[Problem]:
    """Wishes that no machine could ever meet."""
    pinned, wanted = len(definition.placement.cards), definition.gpus
    if pinned and wanted == 0:
        detail = "It names GPUs, and `gpus` is 0: on the CPU alone."
        yield Problem("/placement/cards", detail, "Leave one of the two out.")
    elif pinned and wanted is not None and wanted > pinned:
        detail = f"It names {pinned} GPU{'s' if pinned > 1 else ''}, and each replica asks for {wanted}."
        yield Problem("/placement/cards", detail, "Name more GPUs, or ask for fewer in `gpus`.")


def check_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as given, once the engine accepts them. Raises Refusal."""
    try:
        kind = engine(name)
    except UnknownEngine as error:
        choices = ", ".join(sorted(all_engines()))
        problem = Problem("/engine", f"There is no engine named {name!r}.", f"Choose one of: {choices}.")
        raise Refusal("The engine is not known.", [problem]) from error
    try:
        given = kind.Options.model_validate(dict(options))
    except ValidationError as error:
        title = f"{kind.title} does not take these options."
        raise Refusal(title, [as_problem(e, "/options") for e in error.errors()]) from error
    return given.model_dump(mode="json", exclude_unset=True)


def as_problem(error: Any, prefix: str) -> Problem:
    """One of pydantic's errors as a Problem below `prefix`."""
    pointer = prefix + "".join(f"/{part}" for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return Problem(pointer, f"{error['loc'][-1]!r} is not known here.", "Check its spelling, or leave it out.")
    if error["type"] == "missing":
        return Problem(pointer, "This is required.")
    return Problem(pointer, error["msg"].removeprefix("Value error, "))


def confirm(model: Model) -> Definition:
    """A model's row, checked as if it were written now: rows outlive versions, and doors. Raises Refusal."""
    return parse(describe(model).model_dump(mode="json", warnings=False) | {"placement": model.placement})


def describe(model: Model) -> Definition:
    """A model's row in the words of a definition, as it stands: nothing is checked."""
    return Definition.model_construct(
        name=model.name,
        engine=model.engine,
        source=Source.model_construct(repository=model.repository, revision=model.revision, path=model.path),
        options=model.options,
        image=model.image,
        context=model.context,
        users=model.users,
        gpus=model.gpus,
        replicas=model.replicas,
        placement=_wishes(model.placement),
        desired="running" if model.desired == "running" else "stopped",
    )


def _wishes(written: Any) -> Placement:
    try:
        return Placement.model_validate(written)
    except ValidationError:
        return Placement()
