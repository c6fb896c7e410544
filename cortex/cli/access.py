"""The key to Cortex, and keys for programs."""

import sys
from dataclasses import replace
from typing import Annotated

import typer

from cortex.cli import login, output
from cortex.cli.failures import Exit, Failure
from cortex.cli.output import Format, Output
from cortex.cli.rest import Rest

keys = typer.Typer(no_args_is_help=True, help="Keys for programs.")


def sign_in(ctx: typer.Context) -> None:
    """Keep the address and a key in a file only you can read. The key is asked for, or read from CORTEX_TOKEN."""
    given: login.Login = ctx.obj.login
    token = given.token or _ask_for_key()
    rest = Rest(replace(given, token=token))
    ctx.call_on_close(rest.close)
    rest.get("models", {"limit": 1})
    output.say(f"The key is good. Kept in {login.keep(rest.login)}")


@keys.command("ls")
def list_keys(ctx: typer.Context, output_format: Output = Format.TABLE) -> None:
    """List keys: yours, or everybody's for administrators."""
    columns: output.Columns = {
        "ID": lambda k: k["id"],
        "NAME": lambda k: k["name"],
        "KEY": lambda k: f"ctx_{k['prefix']}_…",
        "OWNER": lambda k: k["owner"],
        "SCOPES": lambda k: ", ".join(k["scopes"]),
        "USED": lambda k: output.age(k["last_used_at"]) or "never",
        "REVOKED": lambda k: "yes" if k["revoked_at"] else "",
    }
    output.show_list(ctx.obj.every("keys"), columns, output_format)


@keys.command("issue")
def issue_key(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="What it is for.")],
    scope: Annotated[list[str] | None, typer.Option(help="infer or manage; repeat for both.")] = None,
    owner: Annotated[str | None, typer.Option(help="Somebody else, for administrators.")] = None,
) -> None:
    """Issue a key and print it, once."""
    key = ctx.obj.post("keys", {"name": name, "scopes": scope or ["infer"], "owner": owner})
    output.say(f"Key {key['id']} of {key['owner']} for {', '.join(key['scopes'])}. Keep it: it is shown this once.")
    typer.echo(key["secret"])


@keys.command("revoke")
def revoke_key(ctx: typer.Context, id: Annotated[int, typer.Argument(help="The key's id: cortex keys ls")]) -> None:
    """Revoke a key: it opens nothing from now on."""
    key = ctx.obj.delete(f"keys/{id}")
    output.say(f"{key['name']} is revoked.")


def _ask_for_key() -> str:
    if not sys.stdin.isatty():
        next = "Set CORTEX_TOKEN, or run it in a terminal. A key for a new installation: ./dev key"
        raise Failure("No key was given.", "stdin is no terminal.", next, Exit.USAGE)
    return str(typer.prompt("Key (from the UI, under Keys)", hide_input=True, err=True)).strip()


def add_to(app: typer.Typer) -> None:
    app.command("login")(sign_in)
    app.add_typer(keys, name="keys")
