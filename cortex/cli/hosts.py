"""Hosts and strays: see them, say what goes there, let go of them."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from cortex.cli import documents, draining, output, waiting
from cortex.cli.models import Timeout
from cortex.cli.output import Format, Output

strays = typer.Typer(help="Containers that nobody claims.", invoke_without_command=True)

Host = Annotated[str, typer.Argument(help="The host: cortex hosts")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def hosts(ctx: typer.Context, output_format: Output = Format.TABLE) -> None:
    """List hosts, and what is wrong with them when something is."""
    columns: output.Columns = {
        "NAME": lambda h: h["name"],
        "ANSWERS": lambda h: "yes" if h["answering"] else f"no, seen {output.age(h['seen_at']) or 'never'}",
        "TAKES": _takes,
        "CORES": lambda h: h["cores"],
        "MEMORY": lambda h: output.size(h["memory"]),
        "GPUS": lambda h: h["gpus"],
        "REPLICAS": lambda h: h["replicas"],
        "STRAYS": lambda h: h["strays"] or "",
        "LABELS": lambda h: " ".join(f"{key}={value}" for key, value in h["labels"].items()),
        "CONDITION": lambda h: " ".join(filter(None, [h["condition"], h["gpu_condition"]])),
    }
    output.show_list(ctx.obj.every("hosts"), columns, output_format)


def cordon(ctx: typer.Context, host: Host) -> None:
    """Place nothing new on a host; what runs there stays."""
    ctx.obj.patch(_path(host), {"cordoned": True})
    output.say(f"{host} takes nothing new. Take it back: cortex uncordon {host}")


def uncordon(ctx: typer.Context, host: Host) -> None:
    """Let a host take models again; a drain ends with it."""
    ctx.obj.patch(_path(host), {"cordoned": False})
    output.say(f"{host} takes models again.")


def drain(
    ctx: typer.Context,
    host: Host,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Until nothing is left there.")] = False,
    timeout: Timeout = waiting.TIMEOUT,
) -> None:
    """Move what runs on a host elsewhere, one replica at a time; nothing new goes there.

    With --wait: 0 once nothing is left, 4 when it takes longer (it goes on by itself), 5 when all that is left is
    pinned there, 1 when somebody calls it off meanwhile.
    """
    answer = ctx.obj.patch(_path(host), {"draining": True})
    if wait:
        draining.wait_until_empty(ctx.obj, _path(host), timeout)
        return
    draining.tell(answer)
    output.say(f"It goes on by itself. See: cortex drain {host} --wait   Call it off: cortex undrain {host}")


def undrain(ctx: typer.Context, host: Host) -> None:
    """Move nothing more from a host: what is there stays. It takes models again, unless it is cordoned."""
    answer = ctx.obj.patch(_path(host), {"draining": False})
    takes = f"It is cordoned still: cortex uncordon {host}" if answer["cordoned"] else "It takes models again."
    output.say(f"Nothing more leaves {host}. {takes}")


def label(
    ctx: typer.Context,
    host: Host,
    labels: Annotated[list[str], typer.Argument(help="KEY=VALUE sets a label, KEY- takes it away.")],
) -> None:
    """Label a host, for models that ask for one labelled so. What runs there stays."""
    answer = ctx.obj.patch(_path(host), {"labels": dict(map(_change, labels))})
    words = " ".join(f"{key}={value}" for key, value in answer["labels"].items())
    output.say(f"{host} is labelled {words}." if words else f"{host} has no labels.")


def forget(
    ctx: typer.Context,
    host: Host,
    force: Annotated[bool, typer.Option("--force", help="Also when it holds replicas; for administrators.")] = False,
    yes: Yes = False,
) -> None:
    """Forget a silent host. With --force its replicas are placed elsewhere, whatever still runs on it."""
    ctx.obj.get(_path(host))
    if not yes:
        output.confirm(f"Forget {host}?" + (" Containers may still run there, and answer nobody." if force else ""))
    ctx.obj.delete(_path(host), {"force": "true"} if force else None)
    output.say(f"{host} is forgotten. Should it come back it registers anew; what it holds by then: cortex strays")


@strays.callback()
def list_strays(ctx: typer.Context, output_format: Output = Format.TABLE) -> None:
    """List containers of this installation that nobody claims, or remove one: cortex strays rm ID"""
    if ctx.invoked_subcommand:
        return
    columns: output.Columns = {
        "ID": lambda s: s["id"],
        "HOST": lambda s: s["host"],
        "CONTAINER": lambda s: s["container"],
        "MODEL": lambda s: s["model"],
        "FOUND": lambda s: f"{output.age(s['first_seen_at'])} ago",
        "GOES": lambda s: "at once" if s["confirmed"] else output.until(s["removed_after"]) or "when you say so",
    }
    output.show_list(ctx.obj.every("strays"), columns, output_format, name="container")


@strays.command("rm")
def remove_stray(
    ctx: typer.Context, id: Annotated[int, typer.Argument(help="The stray's id: cortex strays")], yes: Yes = False
) -> None:
    """Remove a stray now: its container is stopped and removed at its host's next look."""
    if not yes:
        output.confirm(f"Remove stray {id} and its container?")
    stray = ctx.obj.post(f"strays/{id}/confirm")
    output.say(f"{stray['container']} on {stray['host']} goes at the host's next look.")


def add_to(app: typer.Typer) -> None:
    for command in (hosts, cordon, uncordon, drain, undrain, label, forget):
        app.command()(command)
    app.add_typer(strays, name="strays")


def _takes(host: Any) -> str:
    if host["drain"]:
        return f"nothing: {draining.count(host['drain'])}"
    return "nothing new" if host["cordoned"] else "anything"


def _path(host: str) -> str:
    return f"hosts/{quote(host, safe='')}"


def _change(text: str) -> tuple[str, Any]:
    """KEY=VALUE, or KEY- for none."""
    if text.endswith("-") and "=" not in text:
        return text.removesuffix("-"), None
    return documents.label(text)
