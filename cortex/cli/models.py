"""Models: see them, order them about."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from cortex.cli import output, waiting
from cortex.cli.failures import Exit
from cortex.cli.output import Format, Output
from cortex.cli.rest import Rest, model_path

Name = Annotated[str, typer.Argument(help="The model.")]
Names = Annotated[list[str], typer.Argument(help="One or more models.")]
Wait = Annotated[bool, typer.Option("--wait", "-w", help="Until it is done.")]
Timeout = Annotated[float, typer.Option(help="Seconds to wait.", min=0)]


def ls(ctx: typer.Context, output_format: Output = Format.TABLE) -> None:
    """List models."""
    items = ctx.obj.every("models")
    columns: output.Columns = {
        "NAME": lambda m: m["name"],
        "ENGINE": lambda m: m["spec"]["engine"],
        "PHASE": lambda m: output.phase(m["status"]["phase"]),
        "READY": lambda m: f"{m['status']['ready']}/{m['status']['wanted']}",
        "SOURCE": lambda m: m["spec"]["source"]["repository"] or m["spec"]["source"]["path"],
        "AGE": lambda m: output.age(m["created_at"]),
    }
    output.show_list(items, columns, output_format)


def ps(ctx: typer.Context, output_format: Output = Format.TABLE) -> None:
    """List what runs: every replica that is wanted or still there."""
    items = [
        {"name": f"{model['name']}/{_slot(replica)}", **replica}
        for model in ctx.obj.every("models")
        for replica in model["status"]["replicas"]
        if replica["wanted"] or replica["observed"] != "absent"
    ]
    columns: output.Columns = {
        "REPLICA": lambda r: r["name"],
        "HOST": lambda r: r["host"],
        "PHASE": lambda r: output.phase(r["phase"]),
        "SINCE": lambda r: output.age(r["observed_at"]),
        "GPUS": lambda r: ", ".join(f"{seat['index']} ({output.size(seat['bytes'])})" for seat in r["gpus"]),
        "ADDRESS": lambda r: r["address"],
        "REASON": lambda r: r["reason"],
    }
    output.show_list(items, columns, output_format)


def show(ctx: typer.Context, name: Name, output_format: Output = Format.TABLE) -> None:
    """Show a model: what is wanted, how it is, what to do. YAML and JSON hold everything."""
    model = ctx.obj.get(model_path(name))
    match output_format:
        case Format.TABLE:
            _show(model)
        case Format.NAME:
            typer.echo(model["name"])
        case _:
            output.show_data(model, output_format)


def start(ctx: typer.Context, names: Names, wait: Wait = False, timeout: Timeout = waiting.TIMEOUT) -> None:
    """Start models. Earlier failures are forgiven."""
    _order(ctx.obj, names, lambda rest, name: rest.post(model_path(name, "start")), wait, timeout)


def stop(ctx: typer.Context, names: Names, wait: Wait = False, timeout: Timeout = waiting.TIMEOUT) -> None:
    """Stop models, whatever they do now."""
    _order(ctx.obj, names, lambda rest, name: rest.post(model_path(name, "stop")), wait, timeout)


def restart(ctx: typer.Context, names: Names, wait: Wait = False, timeout: Timeout = waiting.TIMEOUT) -> None:
    """Run models in new containers."""
    _order(ctx.obj, names, lambda rest, name: rest.post(model_path(name, "restart")), wait, timeout)


def rm(
    ctx: typer.Context,
    names: Names,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    wait: Wait = False,
    timeout: Timeout = waiting.TIMEOUT,
) -> None:
    """Remove models: their containers stop and go, their definitions too. Files stay."""
    for name in names:
        ctx.obj.get(model_path(name))
    if not yes:
        output.confirm(f"Remove {', '.join(names)}?")
    _order(ctx.obj, names, lambda rest, name: rest.delete(model_path(name)), wait, timeout)


def wait(ctx: typer.Context, names: Names, timeout: Timeout = waiting.TIMEOUT) -> None:
    """Wait until what was last asked of models is done."""
    for name in names:
        waiting.wait_for(ctx.obj, waiting.latest_operation(ctx.obj, name), timeout)


def logs(
    ctx: typer.Context,
    name: Name,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what comes.")] = False,
    tail: Annotated[int, typer.Option(help="The last so many lines.", min=0, max=5000)] = 500,
    previous: Annotated[bool, typer.Option("--previous", "-p", help="Of the attempt before the latest.")] = False,
    replica: Annotated[int, typer.Option(help="The replica's slot.", min=0, max=1000)] = 0,
) -> None:
    """Print what a model's container prints."""
    query = {"tail": tail, "previous": int(previous), "replica": replica}
    if not follow:
        typer.echo(ctx.obj.text(model_path(name, "logs"), query), nl=False)
        return
    try:
        with ctx.obj.lines(model_path(name, "logs"), {**query, "follow": 1}) as lines:
            for line in lines:
                typer.echo(line)
    except KeyboardInterrupt:
        raise typer.Exit(Exit.OK) from None


def attempts(
    ctx: typer.Context,
    name: Name,
    replica: Annotated[int | None, typer.Option(help="Of this slot alone.", min=0, max=1000)] = None,
    output_format: Output = Format.TABLE,
) -> None:
    """List starts of a model, the newest first: their times, how they ended and why. JSON holds their logs."""
    items = ctx.obj.every(model_path(name, "attempts"), None if replica is None else {"replica": replica})
    columns: output.Columns = {
        "START": lambda a: f"{a['replica']} #{a['number']}",
        "BEGAN": lambda a: f"{output.age(a['queued_at'])} ago",
        "STEPS": timeline,
        "ENDED": lambda a: f"{output.age(a['ended_at'])} ago" if a["ended_at"] else "",
        "EXIT": lambda a: f"{a['exit_code']}{' out of memory' if a['oom_killed'] else ''}" if a["ended_at"] else "",
        "WHY": lambda a: f"{'(first failure) ' if a['failure'] == 1 else ''}{a['reason']}",
    }
    output.show_list(items, columns, output_format, name="number")


STEPS = {
    "fetching_at": "fetching", "created_at": "created", "started_at": "loading", "weights_loaded_at": "weights loaded",
    "cache_sized_at": "cache sized", "ready_at": "ready", "first_token_at": "first answer",
}  # fmt: skip


def timeline(attempt: Any) -> str:
    """The steps of a start, each with the seconds since it was queued."""
    steps = [(word, output.between(attempt["queued_at"], attempt[field])) for field, word in STEPS.items()]
    return ", ".join(f"{word} +{after}" for word, after in steps if after)


def add_to(app: typer.Typer) -> None:
    for command in (ls, ps, show, start, stop, restart, rm, wait, logs, attempts):
        app.command()(command)


def _order(rest: Rest, names: list[str], verb: Callable[[Rest, str], Any], wait: bool, timeout: float) -> None:
    operations = [verb(rest, name) for name in names]
    for operation in operations:
        if wait:
            waiting.wait_for(rest, operation["id"], timeout)
        else:
            output.say(f"{operation['model']}: {operation['verb']} is under way. Watch: cortex ps")


def _show(model: Any) -> None:
    spec, status = model["spec"], model["status"]
    source = spec["source"]
    output.facts({
        "Name": model["name"],
        "Phase": output.phase(status["phase"]),
        "Reason": status["reason"],
        "Ready": f"{status['ready']} of {status['wanted']}",
        "Engine": spec["engine"],
        "Source": "  ".join(filter(None, [source["repository"], source["revision"], source["path"]])),
        "Options": "  ".join(f"{key}={value}" for key, value in spec["options"].items()),
        "Image": spec["image"],
        "Context": spec["context"],
        "Users": spec["users"],
        "GPUs": spec["gpus"],
        "Replicas": spec["replicas"],
        "Placement": _placement(spec["placement"]),
        "Turn": model["turn"],
    })  # fmt: skip
    for replica in status["replicas"]:
        _show_replica(replica)


def _slot(replica: Any) -> str:
    """Its place; while a definition changes, two have it."""
    return f"{replica['slot']} (new)" if replica.get("replaces") else str(replica["slot"])


def _placement(wish: Any) -> str:
    """Where it may run, in one line; empty where that does not matter."""
    labels = [f"{key}={value}" for key, value in wish["labels"].items()]
    lists = {"GPUs": wish["cards"], "hosts": wish["hosts"], "hosts labelled": labels}
    words = [f"{what} {', '.join(names)}" for what, names in lists.items() if names]
    return "; ".join([*words, *(["spread"] if wish["spread"] else [])])


def _show_replica(replica: Any) -> None:
    attempt = replica["attempt"] or {}
    typer.echo()
    output.facts({
        f"Replica {_slot(replica)}": output.phase(replica["phase"]),
        "Host": replica["host"],
        "Reason": replica["reason"],
        "In the way": ", ".join(replica["in_the_way"]),
        "Next": replica["remedy"],
        "Address": replica["address"],
        "GPUs": ", ".join(f"{seat['index']} {seat['name']} {output.size(seat['bytes'])}" for seat in replica["gpus"]),
        "Attempt": attempt.get("number"),
        "Steps": timeline(attempt) if attempt else "",
        "First failure": (replica["first_failure"] or {}).get("reason"),
        "Failures": replica["failures"],
        "Exit code": attempt.get("exit_code"),
    })  # fmt: skip
