"""`cortex apply -f`: make models what a file says. All are checked before the first is written."""

import json
from typing import Annotated, Any

import typer

from cortex.cli import documents, output, waiting
from cortex.cli.failures import Exit, Failure
from cortex.cli.models import Timeout, Wait
from cortex.cli.rest import Rest, model_path

Option = Annotated[list[str] | None, typer.Option("--option", "-O", help="An engine's option, KEY=VALUE; repeat.")]


def apply(
    ctx: typer.Context,
    file: Annotated[str, typer.Option("-f", "--file", help="YAML or JSON; - is stdin.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")] = False,
    wait: Wait = False,
    timeout: Timeout = waiting.TIMEOUT,
) -> None:
    """Make models what a file says: + new, ~ changed, = as it was. Models the file does not name are left alone."""
    definitions = documents.read(file)
    plans = _plan(ctx.obj, definitions)
    for definition, plan in zip(definitions, plans, strict=True):
        if plan["changes"] and not dry_run:
            ctx.obj.put(model_path(definition["name"]), definition, turn=plan["turn"])
        _print(plan, dry_run)
    if wait and not dry_run:
        for plan in plans:
            waiting.wait_for(ctx.obj, waiting.latest_operation(ctx.obj, plan["name"]), timeout)


def define(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name under which it is served.")],
    engine: Annotated[str, typer.Option(help="Which engine: cortex engines")] = "llamacpp",
    path: Annotated[str, typer.Option(help="File or folder below the models folder: cortex files")] = "",
    repository: Annotated[str, typer.Option(help="Hub repository, owner/name.")] = "",
    revision: Annotated[str, typer.Option(help="Its branch, tag or commit.")] = "",
    option: Option = None,
    context: Annotated[int | None, typer.Option(help="Tokens one user needs.")] = None,
    users: Annotated[int | None, typer.Option(help="Users at the same time.")] = None,
    gpus: Annotated[int | None, typer.Option(help="GPUs a replica takes; 0 is CPU only.")] = None,
    replicas: Annotated[int, typer.Option(help="How many side by side.")] = 1,
    card: Annotated[list[str] | None, typer.Option(help="UUID of a GPU it may use, and no other; repeat.")] = None,
    host: Annotated[list[str] | None, typer.Option(help="A host it may run on, and no other; repeat.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="What its host must be labelled, KEY=VALUE; repeat.")] = None,
    spread: Annotated[bool, typer.Option("--spread", help="Take the emptiest GPUs.")] = False,
) -> None:
    """Define a new model from flags; `apply -f` takes everything else."""
    definition = {
        "name": name, "engine": engine, "options": dict(_option(text) for text in option or []),
        "source": {"path": path, "repository": repository, "revision": revision},
        "context": context, "users": users, "gpus": gpus, "replicas": replicas,
        "placement": {
            "cards": card or [], "hosts": host or [], "labels": dict(map(documents.label, label or [])),
            "spread": spread,
        },
    }  # fmt: skip
    ctx.obj.post("models", definition)
    output.say(f"{name} is defined. Start it: cortex start {name} --wait")


def add_to(app: typer.Typer) -> None:
    app.command()(apply)
    app.command()(define)


def _plan(rest: Rest, definitions: list[documents.Definition]) -> list[Any]:
    """What each would change. Raises one Failure for all that are refused: then nothing is written."""
    plans, refused = [], []
    for definition in definitions:
        try:
            plans.append(rest.put(model_path(definition["name"]), definition, dry_run=True))
        except Failure as failure:
            if failure.code is not Exit.REFUSED or len(definitions) == 1:
                raise
            refused.append(f"{definition['name']}: {failure.what} {failure.why} {failure.next}".rstrip())
    if refused:
        what = f"{len(refused)} of {len(definitions)} definitions are refused; nothing was changed."
        raise Failure(what, "\n".join(refused), "Correct them, and apply the file again.", Exit.REFUSED)
    return plans


def _print(plan: Any, dry_run: bool) -> None:
    mark = "+" if plan["created"] else "~" if plan["changes"] else "="
    notes = [*(["containers are replaced"] if plan["restarts"] else []), *(["dry run"] if dry_run else [])]
    typer.echo(f"{mark} {plan['name']}" + (f" ({', '.join(notes)})" if notes else ""))
    if mark == "~":
        for change in plan["changes"]:
            typer.echo(f"    {change['field']}: {_short(change['before'])} -> {_short(change['after'])}")


def _short(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _option(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise Failure(f"{text!r} is no option.", "It has no '='.", "Write --option KEY=VALUE.", Exit.USAGE)
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value
