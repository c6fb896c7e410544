"""`cortex chat`: talk to a model, streamed."""

import sys
from typing import Annotated

import typer

from cortex.cli import gateway, output
from cortex.cli.failures import Exit, Failure
from cortex.cli.login import Login
from cortex.cli.models import Name


def chat(
    ctx: typer.Context,
    name: Name,
    message: Annotated[str, typer.Argument(help="What to say; a conversation when left out.")] = "",
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer, in tokens.", min=1)] = None,
) -> None:
    """Talk to a model through the gateway. Reads stdin when it is no terminal."""
    login: Login = ctx.obj.login
    if not message and is_terminal():
        _converse(login, name, max_tokens)
        return
    message = message or sys.stdin.read().strip()
    if not message:
        raise Failure("There is nothing to say.", "No message was given.", f'cortex chat {name} "Hello"', Exit.USAGE)
    _answer(login, name, [{"role": "user", "content": message}], max_tokens)


def add_to(app: typer.Typer) -> None:
    app.command()(chat)


def is_terminal() -> bool:
    """Whether somebody types."""
    return sys.stdin.isatty()


def _converse(login: Login, name: str, limit: int | None) -> None:
    output.say("Ctrl-D ends the conversation.")
    messages: list[gateway.Message] = []
    while (line := _ask()) is not None:
        if line:
            messages.append({"role": "user", "content": line})
            messages.append({"role": "assistant", "content": _answer(login, name, messages, limit)})


def _ask() -> str | None:
    try:
        return input("> ").strip()
    except (EOFError, KeyboardInterrupt):
        return None


def _answer(login: Login, name: str, messages: list[gateway.Message], limit: int | None) -> str:
    pieces: list[str] = []
    for piece in gateway.stream(login, name, messages, limit):
        pieces.append(piece)
        typer.echo(piece, nl=False)
        sys.stdout.flush()
    typer.echo()
    return "".join(pieces)
