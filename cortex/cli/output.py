"""What people and programs read: tables or JSON on stdout, progress on stderr."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cortex.cli.failures import Exit, Failure

WIDE = 240
COLOURS = {
    "serving": "green", "failing": "red", "unknown": "yellow", "stopped": "dim", "draining": "dim",
    "loading": "cyan", "fetching": "cyan", "queued": "cyan",
}  # fmt: skip


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


Output = Annotated[Format, typer.Option("-o", "--output", help="How to print it.", show_default=True)]
Item = Mapping[str, Any]
Columns = Mapping[str, Callable[[Any], object]]


def show_list(items: Sequence[Item], columns: Columns, format: Format, *, name: str = "name") -> None:
    """Items as a table, or as they came."""
    match format:
        case Format.TABLE:
            _table(items, columns)
        case Format.NAME:
            for item in items:
                typer.echo(item[name])
        case _:
            show_data(list(items), format)


def show_data(data: Any, format: Format) -> None:
    """For programs: everything, as it came."""
    if format is Format.JSON:
        typer.echo(json.dumps(data, indent=2, ensure_ascii=False))
    else:
        typer.echo(yaml.safe_dump(data, sort_keys=False, allow_unicode=True).rstrip())


def facts(pairs: Mapping[str, object]) -> None:
    """Words and what they are, one a line; what is empty is left out."""
    table = Table.grid(padding=(0, 2))
    for word, value in pairs.items():
        if value not in (None, "", [], {}):
            table.add_row(Text(word, style="bold"), value if isinstance(value, Text) else str(value))
    _print(table)


def say(text: str) -> None:
    """Progress, for eyes: on stderr."""
    typer.echo(text, err=True)


def confirm(question: str) -> None:
    """Ask; anything but yes ends the command. Raises Failure."""
    if not sys.stdin.isatty():
        raise Failure("Nobody is here to confirm.", "stdin is no terminal.", "Say it with --yes.", Exit.USAGE)
    if not typer.confirm(question, err=True):
        raise Failure("Nothing was changed.", code=Exit.FAILED)


def console() -> Console:
    width = None if sys.stdout.isatty() else WIDE
    return Console(width=width, highlight=False, soft_wrap=False)


def _table(items: Sequence[Item], columns: Columns) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for number, title in enumerate(columns):
        table.add_column(title, overflow="fold", no_wrap=number == 0)
    for item in items:
        table.add_row(*(_cell(read(item)) for read in columns.values()))
    _print(table)


def _print(table: Table) -> None:
    """Without the blanks that fill up the last column."""
    terminal = console()
    with terminal.capture() as printed:
        terminal.print(table)
    typer.echo("\n".join(line.rstrip() for line in printed.get().splitlines()))


def _cell(value: object) -> Text:
    if isinstance(value, Text):
        return value
    return Text("-" if value in (None, "", []) else str(value))


def phase(word: str) -> Text:
    return Text(word, style=COLOURS.get(word, ""))


def size(bytes: int) -> str:
    """Bytes for eyes: GiB, and MiB below a tenth of one."""
    gib, mib = 1 << 30, 1 << 20
    if not bytes:
        return "0 GiB"
    return f"{bytes / gib:.1f} GiB" if bytes >= gib / 10 else f"{bytes / mib:.1f} MiB"


def age(moment: str | None) -> str:
    """How long ago, in the largest unit."""
    return _span(_seconds(moment)) if moment else ""


def until(moment: str) -> str:
    """How long until then; empty when it has passed."""
    left = -_seconds(moment)
    return f"in {_span(left)}" if left > 0 else ""


def between(first: str, then: str | None) -> str:
    """How long from one moment to another; empty when the other has not come."""
    if not then:
        return ""
    seconds = (datetime.fromisoformat(then) - datetime.fromisoformat(first)).total_seconds()
    return f"{seconds:.1f}s" if seconds < 10 else _span(round(seconds))


def _seconds(since: str) -> int:
    return int((datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds())


def _span(seconds: int) -> str:
    seconds = max(0, seconds)
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"
