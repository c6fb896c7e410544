"""`cortex`: everything from a terminal, over REST."""

import sys
from typing import Annotated, Any

import typer

from cortex.cli import access, applying, chatting, doctor, estimating, hosts, login, looking, models
from cortex.cli.failures import Exit, Failure
from cortex.cli.rest import Rest

EPILOG = """\
Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 timeout, 5 refused or does not fit.

Environment: CORTEX_URL, CORTEX_TOKEN, CORTEX_GATEWAY, NO_COLOR. `cortex login` keeps the first three in a file.
"""


class Commands(typer.core.TyperGroup):
    """Failures become words on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Failure as failure:
            typer.echo(str(failure), err=True)
            raise typer.Exit(failure.code) from failure
        except BrokenPipeError as error:
            sys.stderr.close()
            raise typer.Exit(Exit.FAILED) from error


app = typer.Typer(
    cls=Commands, no_args_is_help=True, epilog=EPILOG, pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip


@app.callback()
def connect(
    ctx: typer.Context,
    url: Annotated[str, typer.Option(envvar="CORTEX_URL", help="Where Cortex is.")] = "",
    token: Annotated[str, typer.Option(envvar="CORTEX_TOKEN", help="A key of scope 'manage'.")] = "",
    gateway: Annotated[str, typer.Option(envvar="CORTEX_GATEWAY", help="Where the models answer.")] = "",
) -> None:
    """Define models, start them, talk to them."""
    said = login.Login(url.rstrip("/"), token, gateway.rstrip("/"))
    kept = login.Login() if ctx.invoked_subcommand == "login" else login.kept()
    ctx.obj = Rest(said.with_defaults(kept))
    ctx.call_on_close(ctx.obj.close)


for room in (models, applying, estimating, hosts, looking, chatting, doctor, access):
    room.add_to(app)
