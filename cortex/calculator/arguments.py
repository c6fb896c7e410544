"""Engines' command lines, read for what they change about memory; everything else is passed over."""

import re
from collections.abc import Callable, Iterable, Sequence

Flag = tuple[tuple[str, ...], str, Callable[[str], object]]
HUMAN = re.compile(r"^(\d+(?:\.\d+)?)([kKmMgG]?)$")
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def read_flags(arguments: Sequence[str], flags: Iterable[Flag]) -> dict[str, object]:
    """Values by option name. Raises ValueError when a value is not one."""
    values = dict(_pairs(arguments))
    return {name: convert(values[flag]) for names, name, convert in flags for flag in names if flag in values}


def _pairs(arguments: Sequence[str]) -> Iterable[tuple[str, str]]:
    for index, argument in enumerate(arguments):
        if not _is_flag(argument):
            continue
        flag, equals, value = argument.partition("=")
        if equals and flag.startswith("--"):
            yield flag, value
            continue
        following = arguments[index + 1] if index + 1 < len(arguments) else ""
        yield argument, "" if _is_flag(following) else following


def _is_flag(text: str) -> bool:
    return text.startswith("-") and not text[1:2].isdigit()


def human_number(text: str) -> int:
    """A count as vLLM takes it: 4096, 32k (thousands), 32K (times 1,024). Raises ValueError."""
    match = HUMAN.match(text)
    if not match:
        raise ValueError(f"{text!r} is not a number")
    return int(float(match[1]) * UNITS[match[2]])


def switched_on(_: str) -> bool:
    return True


def switched_off(_: str) -> bool:
    return False
