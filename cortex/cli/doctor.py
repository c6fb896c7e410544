"""`cortex doctor`: what works, what does not, and how to mend it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import typer
from rich.text import Text

from cortex.cli import gateway, output
from cortex.cli.failures import Exit, Failure
from cortex.cli.rest import Rest


@dataclass(frozen=True)
class Check:
    """One line of the report; `fix` is empty when all is well."""

    title: str
    ok: bool
    detail: str
    fix: str = ""


def doctor(ctx: typer.Context) -> None:
    """Check everything from here to the models. Exits 1 when something is wrong."""
    bad = 0
    for check in examine(ctx.obj):
        bad += not check.ok
        mark = Text("ok  ", style="green") if check.ok else Text("FAIL", style="red")
        output.console().print(mark, Text(f"{check.title}: {check.detail}"))
        if check.fix:
            output.console().print(Text(f"     -> {check.fix}"))
    if bad:
        raise typer.Exit(Exit.FAILED)


def examine(rest: Rest) -> Iterator[Check]:
    """The checks, in the order in which one needs the other."""
    try:
        health = rest.get("health")
    except Failure as failure:
        yield _failed("API", failure)
        return
    yield Check("API", True, f"answers at {rest.login.url}")
    yield from (_service(name, found) for name, found in health["checks"].items())
    yield from _hosts(rest)
    yield _gateway(rest)


def add_to(app: typer.Typer) -> None:
    app.command()(doctor)


def _service(name: str, found: Any) -> Check:
    said, _, fix = found["detail"].partition(". ")
    return Check(name.capitalize(), found["ok"], said.rstrip("."), "" if found["ok"] else fix)


def _hosts(rest: Rest) -> Iterator[Check]:
    try:
        hosts = rest.every("hosts")
    except Failure as failure:
        yield _failed("Key", failure)
        return
    yield Check("Key", True, "is good")
    if not hosts:
        fix = "Start an agent: ./dev up, or `manage.py agent` on the host."
        yield Check("Hosts", False, "none has reported yet", fix)
    for host in hosts:
        yield _host(host)
        if host["gpu_condition"]:
            yield Check(f"GPUs of {host['name']}", True, host["gpu_condition"])


def _host(host: Any) -> Check:
    title = f"Host {host['name']}"
    if not host["answering"]:
        fix = f"On {host['name']}, see that the agent and the worker run (./dev up) and reach the database."
        return Check(title, False, f"does not answer; last seen {output.age(host['seen_at']) or 'never'} ago", fix)
    if host["condition"]:
        return Check(title, False, host["condition"], "Mend it on the host; Cortex sees it within seconds.")
    return Check(title, True, f"answers: {host['version'] or 'engine'}, {host['gpus']} GPUs")


def _gateway(rest: Rest) -> Check:
    try:
        names = gateway.models(rest.login)
    except Failure as failure:
        return _failed("Gateway", failure)
    return Check("Gateway", True, f"answers at {rest.login.gateway}; models: {', '.join(names) or 'none serves yet'}")


def _failed(title: str, failure: Failure) -> Check:
    return Check(title, False, f"{failure.what} {failure.why}".strip(), failure.next)
