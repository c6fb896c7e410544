"""`cortex estimate`: what a model takes, before anything starts."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer
from rich.text import Text

from cortex.cli import documents, output
from cortex.cli.failures import Exit, Failure
from cortex.cli.output import Format, Output

WORDS = {"fits": "fits", "tight": "tight", "does_not_fit": "does not fit", "unknown": "unknown"}
COLOURS = {"fits": "green", "tight": "yellow", "does_not_fit": "red", "unknown": "yellow"}
MARKS = {"fits": "✓", "tight": "!", "does_not_fit": "✗", "unknown": "?"}
File = Annotated[str, typer.Option("-f", "--file", help="Definitions in YAML or JSON instead; - is stdin.")]
Stack = Annotated[str, typer.Option("--stack", help="A file of definitions to put on one set of cards together.")]


def estimate(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="A model.")] = "",
    file: File = "",
    stack: Stack = "",
    output_format: Output = Format.TABLE,
) -> None:
    """Say what a model takes per card, and whether that is free: exit code 5 when it does not fit."""
    if sum(map(bool, (name, file, stack))) != 1:
        raise Failure("What is to be estimated?", next="Name a model, or a file: -f or --stack.", code=Exit.USAGE)
    if stack:
        bad = _stack(ctx, stack, output_format)
    else:
        asked = [{"model": name}] if name else [{"definition": each} for each in documents.read(file)]
        bad = _estimates(ctx, asked, output_format)
    if bad:
        raise typer.Exit(Exit.REFUSED)


def add_to(app: typer.Typer) -> None:
    app.command()(estimate)


def _estimates(ctx: typer.Context, asked: list[dict[str, Any]], output_format: Format) -> bool:
    found = [{"name": _name(each), **ctx.obj.post("estimates", each)} for each in asked]
    if output_format is Format.TABLE:
        for each in found:
            _show(each)
    else:
        output.show_list(found, {}, output_format)
    return any(each["verdict"] == "does_not_fit" for each in found)


def _name(asked: dict[str, Any]) -> str:
    return str(asked.get("model") or asked["definition"]["name"])


def _show(found: Any) -> None:
    verdict = found["verdict"]
    output.facts({
        "Model": found["name"],
        "Verdict": Text(f"{MARKS[verdict]} {WORDS[verdict]}", style=COLOURS[verdict]),
        "Reason": found["reason"],
        "Next": found["remedy"],
        "Goes to": found["goes_to"],
        "In the way": ", ".join(found["in_the_way"]),
        "Longest": _tokens(found["longest_context"]),
        "Most users": found["most_users"],
        "Cache holds": _tokens(found["yields"] and found["yields"]["tokens"]),
        "Disk": found["disk"] and output.size(found["disk"]),
        "Corrected by": found["corrected_by"] and f"the start of {found['corrected_by']}",
    })  # fmt: skip
    rows = list(_rows(found))
    if rows:
        typer.echo()
        output.show_list(rows, COLUMNS, Format.TABLE)
    for change in found["changes"]:
        typer.echo(f"  It fits if: {change['title']}  {_patch(change['patch'])}")
    for each in found["assumptions"]:
        typer.echo(f"  Note: {each}")


COLUMNS: output.Columns = {
    "ON": lambda row: row["on"],
    "TERM": lambda row: row["name"],
    "LOW": lambda row: output.size(row["low"]),
    "LIKELY": lambda row: output.size(row["likely"]),
    "HIGH": lambda row: output.size(row["high"]),
    "WHY": lambda row: row["reason"],
}


def _rows(found: Any) -> Iterator[dict[str, Any]]:
    """Terms of the cards that it would take, else of the first it was reckoned for; then the host's."""
    held = [card for card in found["cards"] if card["need"]]
    for card in [card for card in held if card["chosen"]] or held[:1]:
        where = f"{card['name'] or 'GPU'} {card['gpu'][:12]}"
        yield from ({"on": where, **term} for term in card["need"]["terms"])
        yield {"on": where, "name": "all", "reason": card["reason"], **_sums(card["need"])}
    if found["host"]:
        yield {"on": "host", "name": "all", "reason": "the host's own memory", **_sums(found["host"])}


def _sums(need: Any) -> dict[str, int]:
    return {word: need[word] for word in ("low", "likely", "high")}


def _stack(ctx: typer.Context, file: str, output_format: Format) -> bool:
    found = ctx.obj.post("estimates/stack", {"definitions": documents.read(file)})
    bad = bool(found["verdict"] != "fits")
    if output_format is not Format.TABLE:
        output.show_data(found, output_format)
        return bad
    columns: output.Columns = {
        "MODEL": lambda s: s["name"],
        "GPU": lambda s: " ".join(gpu[:12] for gpu in s["gpus"]),
        "TAKES": lambda s: output.size(s["bytes"]),
        "SHARE": lambda s: f"{s['fraction']:.0%}",
        "SAVES": lambda s: output.size(s["freed"]),
        "CHANGE": lambda s: _patch(s["patch"]),
    }
    if found["shares"]:
        output.show_list(found["shares"], columns, Format.TABLE)
    for line in _stack_in_words(found):
        typer.echo(f"  {line}")
    if found["scenarios"]:
        typer.echo()
        output.show_list(found["scenarios"], _side_by_side(found["scenarios"]), Format.TABLE)
    return bad


def _stack_in_words(found: Any) -> Iterator[str]:
    for card in found["cards"]:
        yield f"{card['name'] or 'GPU'} {card['gpu'][:12]}: {output.size(card['left'])} stay free"
    if found["cards"]:
        yield f"All take {output.size(found['total'])}, {output.size(found['freed'])} less than now."
    yield from (f"No room for {name}." for name in found["refused"])
    host = found["host"]
    for part in host["parts"]:
        if part["on_processor"]:
            yield f"{part['name']} runs on the processor and takes {output.size(part['bytes'])} of the host's memory."
    known = f" of {output.size(host['memory'])}" if host["memory"] else ""
    yield f"Together they take {output.size(host['total'])}{known} of the host's own memory."
    if host["memory"] and host["total"] > host["memory"]:
        yield f"The host has {output.size(host['total'] - host['memory'])} too little of it."


def _side_by_side(scenarios: list[Any]) -> output.Columns:
    """A column per model, the total, what is saved."""

    def part(name: str) -> Callable[[Any], str]:
        return lambda row: "no room" if row["parts"][name] is None else output.size(row["parts"][name])

    names = {name.upper(): part(name) for name in scenarios[0]["parts"]}
    total = {"ALL": lambda row: output.size(row["total"]), "SAVED": lambda row: _saved(row["freed"])}
    return {"SCENARIO": lambda row: row["title"], **names, **total}


def _saved(size: int) -> str:
    return f"-{output.size(-size)}" if size < 0 else output.size(size)


def _patch(patch: Any) -> str:
    """A merge patch in one line; what it takes away stands empty."""
    words = []
    for key, value in patch.items():
        inner = value if isinstance(value, dict) else {"": value}
        names = {name: name if key == "options" else f"{key}.{name}".rstrip(".") for name in inner}
        words += [f"{names[name]}={'' if each is None else each}" for name, each in inner.items()]
    return " ".join(words)


def _tokens(count: int | None) -> str:
    return "" if count is None else f"{count:,} tokens"
