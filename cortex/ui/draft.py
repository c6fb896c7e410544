"""A definition while it is written in the form: what stands in each field, and what is wrong with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from cortex.catalog import files
from cortex.catalog.definition import Problem, describe
from cortex.catalog.models import Model
from cortex.ui import fields, places
from cortex.ui.fields import Field, Group
from engines import all_engines
from engines.contract import Engine

OPTION = "options."
UNLIKE = {"extra_args"}

NAME = Field(
    "name", "/name", "Name", "What programs ask for: lower-case letters, digits, dots, colons, dashes.", required=True
)
PATH = Field("source.path", "/source/path", "File or folder", "A GGUF file or a folder, below the models folder.")
REPOSITORY = Field("source.repository", "/source/repository", "Repository", "On the hub, as in owner/name.")
REVISION = Field("source.revision", "/source/revision", "Revision", "Branch, tag or commit; empty is the main branch.")
FILE = Field("source.file", "/source/path", "File", "One GGUF of the repository; empty takes all its weights.")
SIZES = (
    Field("context", "/context", "Context", "Tokens one user needs at once.", "int", low=1, default="engine's own"),
    Field("users", "/users", "Users", "Served at the same time.", "int", low=1, default="engine's own"),
    Field("gpus", "/gpus", "GPUs", "Per replica; 0 is CPU only.", "int", low=0, high=64, default="Cortex chooses"),
    Field("replicas", "/replicas", "Replicas", "Copies that run side by side.", "int", low=0, high=1000, default="1"),
)
SIZE_NAMES = {field.name for field in SIZES}
IMAGE = Field("image", "/image", "Image", "A container image to run instead of the engine's own.", default="engine's")


@dataclass(frozen=True)
class Choice:
    """An engine to choose, and why or why not."""

    engine: Engine
    chosen: bool
    fits: bool | None
    reason: str


@dataclass(frozen=True)
class Change:
    """A field as it stands in the definition, and what was filled in instead."""

    field: Field
    now: str


@dataclass(frozen=True)
class Draft:
    """`values` by the names of the form's fields. `model` is the row that is edited, None for a new one.

    `changes` are fields that an address filled in, for people to look at before they save.
    """

    values: Mapping[str, str]
    problems: Sequence[Problem] = ()
    model: Model | None = None
    changes: Sequence[Change] = ()

    @property
    def engine(self) -> Engine:
        known = all_engines()
        return known.get(self.values.get("engine", "")) or known[sorted(known)[0]]

    @property
    def turn(self) -> str:
        """The turn this draft was begun from, so that nobody's change is overwritten unseen."""
        return self.values.get("turn") or (str(self.model.turn) if self.model else "")

    @property
    def from_hub(self) -> bool:
        return self.values.get("source.kind") == "hub"

    @property
    def file_field(self) -> Field:
        return replace(self._filled(PATH, mine=not self.from_hub), suggestions=tuple(files.available()))

    @property
    def name_field(self) -> Field:
        return self._filled(NAME)

    @property
    def hub_fields(self) -> list[Field]:
        return [self._filled(REPOSITORY), self._filled(REVISION), self._filled(FILE, mine=self.from_hub)]

    @property
    def size_fields(self) -> list[Field]:
        return [self._filled(field) for field in SIZES]

    @property
    def image_field(self) -> Field:
        return self._filled(IMAGE)

    @property
    def place_fields(self) -> list[Field]:
        return places.drawn(self.values, self.problems)

    @property
    def is_placed(self) -> bool:
        """Whether something stands in the fields of where it may run, or is wrong with them."""
        named = any(self.values.get(field.name, "").strip() for field in self.place_fields)
        return named or any(problem.pointer.startswith("/placement") for problem in self.problems)

    @property
    def groups(self) -> list[Group]:
        return fields.of_engine(self.engine.Options, self._options(), self.problems)

    @property
    def choices(self) -> list[Choice]:
        """Every engine; those that load the chosen files first."""
        chosen, kind = self.engine.name, self._format()
        found = [_choice(engine, engine.name == chosen, kind) for _, engine in sorted(all_engines().items())]
        return sorted(found, key=lambda choice: choice.fits is False)

    def fitting(self) -> "Draft":
        """With an engine that loads the chosen files, where the present one does not."""
        now = next(choice for choice in self.choices if choice.chosen)
        better = next((choice for choice in self.choices if choice.fits), now)
        return self if now.fits is not False else replace(self, values={**self.values, "engine": better.engine.name})

    def moved_from(self, engine: str) -> "Draft":
        """After a change of engine: what means something else there is dropped."""
        if engine == self.engine.name:
            return self
        kept = {name: text for name, text in self.values.items() if name.removeprefix(OPTION) not in UNLIKE}
        return replace(self, values=kept)

    def definition(self) -> dict[str, Any]:
        """In the words of a definition, for `orders.define` to judge."""
        plain = {field.name: self.values.get(field.name, "").strip() for field in (*SIZES, IMAGE)}
        return {
            "name": self.values.get("name", "").strip(),
            "engine": self.values.get("engine", ""),
            "source": self._source(),
            "options": fields.read(self.engine.Options, self._options()),
            "placement": places.read(self.values),
            **{name: text for name, text in plain.items() if text},
        }

    def unplaced(self) -> list[Problem]:
        """Problems that no field shows."""
        placed = {id(problem) for field in self._shown() for problem in field.problems}
        return [problem for problem in self.problems if id(problem) not in placed]

    def troubled(self) -> list[Field]:
        """Fields that show a problem, in the order of the form."""
        return [field for field in self._shown() if field.problems]

    def filled(self, given: Mapping[str, str]) -> "Draft":
        """With what an address says of sizes and options; anything else it says is not listened to."""
        known = {field.name: field for field in self._shown()}
        before = {name: field for name, field in known.items() if name in SIZE_NAMES or name.startswith(OPTION)}
        changed = {name: text for name, text in given.items() if name in before and text != before[name].value}
        told = tuple(Change(before[name], text) for name, text in changed.items())
        return replace(self, values={**self.values, **changed}, changes=told)

    def _shown(self) -> list[Field]:
        """Every field in the order of the form; of the two kinds of source the chosen one."""
        source = self.hub_fields if self.from_hub else [self.file_field]
        shown = [self.name_field, *source, *self.size_fields, *self.place_fields, self.image_field]
        return shown + [field for group in self.groups for field in (*group.fields, *group.more)]

    def _options(self) -> dict[str, str]:
        return {name.removeprefix(OPTION): text for name, text in self.values.items() if name.startswith(OPTION)}

    def _source(self) -> dict[str, str]:
        names = ("source.repository", "source.revision", "source.file") if self.from_hub else ("source.path",)
        return {_word(name): text for name in names if (text := self.values.get(name, "").strip())}

    def _filled(self, field: Field, *, mine: bool = True) -> Field:
        filled = replace(field, value=self.values.get(field.name, ""))
        return filled.told(self.problems) if mine else filled

    def _format(self) -> str | None:
        """What the chosen files are, as far as their name tells."""
        source = self._source()
        path, repository = source.get("path", ""), source.get("repository", "")
        if path.endswith(".gguf") or repository.lower().endswith("gguf"):
            return "gguf"
        if repository or (path and PurePosixPath(path).suffix != ".gguf"):
            return "safetensors"
        return None


def of(model: Model) -> Draft:
    """A model's present definition, to edit."""
    described = describe(model)
    definition = described.model_dump(mode="json", exclude={"source", "options", "placement", "desired"})
    plain = {name: fields.write(value) for name, value in definition.items() if value is not None}
    options = {f"{OPTION}{name}": text for name, text in fields.written(model.options).items()}
    where = "source.file" if model.repository else "source.path"
    source = {
        "source.kind": "hub" if model.repository else "folder",
        "source.repository": model.repository,
        "source.revision": model.revision,
        where: model.path,
    }
    return Draft({**plain, **options, **source, **places.written(described.placement)}, model=model)


def _word(name: str) -> str:
    return "path" if name == "source.file" else name.removeprefix("source.")


def _choice(engine: Engine, chosen: bool, kind: str | None) -> Choice:
    loads = " and ".join("GGUF" if form == "gguf" else form for form in sorted(engine.formats)) or "no files"
    if kind is None:
        return Choice(engine, chosen, None, f"Loads {loads}.")
    word = "GGUF" if kind == "gguf" else kind
    if kind in engine.formats:
        return Choice(engine, chosen, True, f"Fits: it loads {word}.")
    return Choice(engine, chosen, False, f"Does not fit: it loads {loads}, and this is {word}.")
