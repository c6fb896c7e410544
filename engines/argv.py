"""From typed options to a command line, and the guard on arguments that people write themselves."""

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, JsonValue, field_validator
from pydantic.config import JsonDict

from engines.contract import Options

Group = Literal["Context and memory", "Speed", "GPUs", "Task", "Chat", "Model", "LoRA", "More"]

ADDRESS = "the address is set by Cortex"
MODEL = "the model and its name are set by Cortex"
CONTEXT = "it follows from the model's context and users, which Cortex sets"
SECURITY = "access is guarded by Cortex's own gateway"
FILES = "it would read or write files of its own choice"
CODE = "it would run code or reach other machines"
QUITS = "the engine would print something and end"

ExtraArgs = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=4096)], ...],
    Field(
        title="Extra arguments",
        description="Further arguments for the engine, one a line, passed on as they are.",
        max_length=64,
        json_schema_extra={"group": "More", "advanced": True},
    ),
]


def drawn(
    group: Group,
    flag: str | None = None,
    *,
    short: tuple[str, ...] = (),
    off: str | None = None,
    joiner: str | None = None,
    advanced: bool = False,
) -> JsonDict:
    """What a field's JSON Schema says beyond its type, for the form and for the command line.

    ``flag`` is the engine's name for it and ``short`` its other names, ``off`` the flag that says false.
    A list is written as one value joined by ``joiner``, or as several values without one.
    """
    told: JsonDict = {
        "group": group,
        "advanced": advanced,
        "flag": flag,
        "short": list(short),
        "off": off,
        "joiner": joiner,
    }
    return {name: value for name, value in told.items() if value}


class Arguments(Options):
    """Options of an engine that is a command. Fields that name a flag become arguments.

    ``refused`` says which flags nobody may write among the extra arguments, and why; a name that ends
    with ``*`` stands for all that begin so. Flags of the fields are refused there too: one thing has
    one place. ``equals`` writes ``--flag=value`` (argparse, which also takes shortened flags) instead
    of two arguments.
    """

    refused: ClassVar[Mapping[str, str]] = {}
    equals: ClassVar[bool] = False

    @field_validator("extra_args", check_fields=False)
    @classmethod
    def _only_harmless(cls, extra_args: tuple[str, ...]) -> tuple[str, ...]:
        if extra_args and not extra_args[0].startswith("-"):
            raise ValueError(
                f"Extra arguments begin with a flag, not with {extra_args[0]!r}. Write the flag before it."
            )
        for argument in extra_args:
            cls._check(argument)
        return extra_args

    @classmethod
    def _check(cls, argument: str) -> None:
        if not argument.isprintable():
            raise ValueError(f"Extra argument {argument!r} has a line break or a control character. Remove it.")
        if argument.startswith("@") or argument == "--":
            raise ValueError(f"Extra argument {argument!r} would change how the others are read. Remove it.")
        if not argument.startswith("-"):
            return
        for flag, why, shortened in cls._refusals():
            if matches(argument, flag, shortened=shortened):
                raise ValueError(f"Extra argument {argument!r} is refused: {why}. Remove it.")

    @classmethod
    def _refusals(cls) -> Iterator[tuple[str, str, bool]]:
        for pattern, why in cls.refused.items():
            for flag in pattern.split():
                yield flag, why, cls.equals or flag.startswith("--")
        for name, field in cls.model_fields.items():
            for flag in flags(field.json_schema_extra):
                yield flag, f"the option '{field.title or name}' sets it", cls.equals

    def argv(self) -> list[str]:
        """The arguments of every field that has a flag and a value, in the order of the fields."""
        words: list[str] = []
        for name, field in type(self).model_fields.items():
            extra = field.json_schema_extra
            value = getattr(self, name)
            if isinstance(extra, dict) and "flag" in extra and value is not None:
                words += self._written(str(extra["flag"]), value, extra)
        return words

    def _written(self, flag: str, value: object, extra: Mapping[str, JsonValue]) -> list[str]:
        if isinstance(value, bool):
            off = extra.get("off")
            return [flag] if value else [str(off)] if off else []
        if isinstance(value, tuple):
            return self._listed(flag, [str(item) for item in value], extra.get("joiner"))
        return self.pair(flag, value)

    def _listed(self, flag: str, items: list[str], joiner: object) -> list[str]:
        if not items:
            return []
        return self.pair(flag, str(joiner).join(items)) if joiner else [flag, *items]

    @classmethod
    def pair(cls, flag: str, value: object) -> list[str]:
        """A flag with its value, as this engine's parser wants them."""
        return [f"{flag}={value}"] if cls.equals else [flag, str(value)]


def flags(extra: object) -> list[str]:
    """Every name a field's flag goes by, as told by its ``json_schema_extra``."""
    if not isinstance(extra, dict) or "flag" not in extra:
        return []
    return [extra["flag"], *extra.get("short", []), *([extra["off"]] if "off" in extra else [])]


def matches(argument: str, flag: str, *, shortened: bool) -> bool:
    """Whether a parser could read ``argument`` as ``flag``.

    Assumed of every parser: underscores for dashes, ``--flag=value`` and ``--flag.field=value``; with
    ``shortened`` also ``--fl`` and ``-fVALUE``. To refuse too much is a message, too little is a hole.
    """
    name = argument.split("=", 1)[0].split(".", 1)[0].replace("_", "-")
    stem = flag.removesuffix("*")
    if name == stem or (flag.endswith("*") and name.startswith(stem)):
        return True
    if not shortened or name.startswith("--") != stem.startswith("--"):
        return False
    dashes = 2 if stem.startswith("--") else 1
    cut_short = len(name) > dashes and stem.startswith(name)
    value_attached = len(stem) == 2 and name.startswith(stem)
    return cut_short or value_attached
