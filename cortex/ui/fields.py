"""Form fields, drawn from an engine's JSON Schema: a new option of an engine is a new field here, by itself."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from cortex.catalog.definition import Problem
from engines.contract import Options

Kind = Literal["bool", "int", "float", "choice", "lines", "text"]
KINDS: dict[str, Kind] = {"boolean": "bool", "integer": "int", "number": "float", "array": "lines", "string": "text"}


@dataclass(frozen=True)
class Field:
    """One field: how it looks, what is in it, what is wrong with it. `pointer` is its place in the definition.

    `chips` are lines that could be added, each with the word for it.
    """

    name: str
    pointer: str
    title: str
    help: str = ""
    kind: Kind = "text"
    flag: str = ""
    group: str = ""
    advanced: bool = False
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    default: str = ""
    value: str = ""
    suggestions: tuple[str, ...] = ()
    chips: tuple[tuple[str, str], ...] = ()
    required: bool = False
    problems: tuple[Problem, ...] = ()

    @property
    def id(self) -> str:
        return f"field-{self.name.replace('.', '-')}"

    @property
    def limits(self) -> str:
        """Its bounds, in words."""
        if self.low is not None and self.high is not None:
            return f"{self.low:,} to {self.high:,}."
        return f"At least {self.low:,}." if self.low else ""

    @property
    def is_long(self) -> bool:
        return self.kind == "lines"

    def told(self, problems: Iterable[Problem]) -> "Field":
        """With those of the problems that are its own."""
        own = tuple(p for p in problems if p.pointer == self.pointer or p.pointer.startswith(f"{self.pointer}/"))
        return replace(self, problems=own)


@dataclass(frozen=True)
class Group:
    """Fields under one heading; the advanced ones wait behind `more`."""

    title: str
    fields: tuple[Field, ...]
    more: tuple[Field, ...]

    @property
    def is_open(self) -> bool:
        return any(field.value or field.problems for field in self.more)


def of_engine(options: type[Options], values: Mapping[str, str], problems: Iterable[Problem]) -> list[Group]:
    """The engine's options as groups of fields, in the order in which the engine declares them."""
    told = list(problems)
    properties: dict[str, Any] = options.model_json_schema()["properties"]
    fields = [_field(name, schema, values.get(name, "")).told(told) for name, schema in properties.items()]
    titles = dict.fromkeys(field.group for field in fields)
    return [_group(title, [field for field in fields if field.group == title]) for title in titles]


def written(options: Mapping[str, Any]) -> dict[str, str]:
    """Option values as they stand in fields."""
    return {name: write(value) for name, value in options.items() if value is not None}


def write(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "\n".join(str(item) for item in value)
    return str(value)


def read(options: type[Options], values: Mapping[str, str]) -> dict[str, Any]:
    """What stands in fields, as option values; empty means the engine's default. The engine checks the types."""
    properties: dict[str, Any] = options.model_json_schema()["properties"]
    given = {name: values.get(name, "").strip() for name in properties}
    return {name: _value(properties[name], text) for name, text in given.items() if text}


def lines(text: str) -> list[str]:
    """What stands on each line; empty ones are left out."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def _value(schema: Mapping[str, Any], text: str) -> str | list[str]:
    return lines(text) if _kind(_inner(schema)) == "lines" else text


def _field(name: str, schema: Mapping[str, Any], value: str) -> Field:
    inner = _inner(schema)
    default = schema.get("default")
    return Field(
        name=f"options.{name}",
        pointer=f"/options/{name}",
        title=schema.get("title", name),
        help=schema.get("description", ""),
        kind=_kind(inner),
        flag=schema.get("flag", ""),
        group=schema.get("group", "More"),
        advanced=schema.get("advanced", False),
        choices=tuple(inner.get("enum", ())),
        low=inner.get("minimum", inner.get("exclusiveMinimum")),
        high=inner.get("maximum"),
        default=write(default) if default is not None else "",
        value=value,
    )


def _inner(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema without its null."""
    return next((part for part in schema.get("anyOf", ()) if part.get("type") != "null"), schema)


def _kind(schema: Mapping[str, Any]) -> Kind:
    return "choice" if "enum" in schema else KINDS[schema["type"]]


def _group(title: str, fields: list[Field]) -> Group:
    return Group(title, tuple(f for f in fields if not f.advanced), tuple(f for f in fields if f.advanced))
