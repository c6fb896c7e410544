"""Cards, engines, files."""

from typing import Annotated

import typer

from cortex.cli import output
from cortex.cli.output import Format, Output


def gpus(ctx: typer.Context, output_format: Output = Format.TABLE) -> None:
    """List cards: what is used, promised and free."""
    columns: output.Columns = {
        "GPU": lambda g: f"{g['host']}/{g['index']}",
        "NAME": lambda g: g["name"],
        "TOTAL": lambda g: output.size(g["total"]),
        "USED": lambda g: output.size(g["used"]),
        "RESERVED": lambda g: output.size(g["reserved"]),
        "FREE": lambda g: "missing" if g["missing"] else output.size(g["free"]),
        "BUSY": lambda g: "" if g["utilisation"] is None else f"{g['utilisation']} %",
        "MODELS": lambda g: ", ".join(g["models"]),
    }
    output.show_list(ctx.obj.every("gpus"), columns, output_format, name="uuid")


def engines(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Show this engine's options.")] = "",
    output_format: Output = Format.TABLE,
) -> None:
    """List engines, or the options of one."""
    if not name:
        columns: output.Columns = {
            "NAME": lambda e: e["name"],
            "LOADS": lambda e: ", ".join(e["formats"]),
            "SERVES": lambda e: ", ".join(e["tasks"]),
            "SUMMARY": lambda e: e["summary"],
        }
        output.show_list(ctx.obj.every("engines"), columns, output_format)
        return
    schema = ctx.obj.get(f"engines/{name}/schema")
    if output_format in (Format.JSON, Format.YAML):
        output.show_data(schema, output_format)
        return
    options = [{"name": option, **facts} for option, facts in schema["properties"].items()]
    output.show_list(
        options,
        {"OPTION": lambda o: o["name"], "FLAG": lambda o: o.get("flag"), "MEANS": lambda o: o.get("description")},
        output_format,
    )


def files(ctx: typer.Context, output_format: Output = Format.TABLE) -> None:
    """List weights in the models folder: what a definition's source.path may say."""
    output.show_list(ctx.obj.every("files"), {"PATH": lambda f: f["path"]}, output_format, name="path")


def add_to(app: typer.Typer) -> None:
    for command in (gpus, engines, files):
        app.command()(command)
