"""./dev's words: each is one function of one module here."""

import argparse
import sys

from tools import check, demo, system
from tools.phase import PhaseFailed


def main() -> int:
    words = argparse.ArgumentParser(prog="./dev", description="Run, try, test and measure Cortex on this machine.")
    commands = words.add_subparsers(dest="command", required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="run everything here, until Ctrl-C; models go on running")
    up.add_argument("--pretend", action="store_true", help="imaginary containers and four imaginary GPUs")
    up.add_argument("--web", type=int, default=8000, metavar="PORT", help="port of the UI and REST (8000)")
    up.add_argument("--gateway", type=int, default=8001, metavar="PORT", help="port of the models' API (8001)")
    down = commands.add_parser("down", help="stop everything that up started; models go on running")
    down.add_argument("--models", action="store_true", help="order every model to stop first, and wait for it")
    commands.add_parser("demo", help="from nothing to a streamed answer, on this machine")
    commands.add_parser("setup-link", help="a fresh one-time link for the first administrator")
    key = commands.add_parser("key", help="an API key for a person, shown once")
    key.add_argument("username")
    commands.add_parser("cli", help="the cortex command, against what runs here", add_help=False)
    commands.add_parser("manage", help="Django's manage.py, with what runs here as its database", add_help=False)
    test = commands.add_parser("test", help="every test, with coverage")
    test.add_argument("--unit", action="store_true", help="only the fast ones, without sockets")
    test.add_argument("--slow", action="store_true", help="the slow ones too")
    commands.add_parser("check", help="ruff, mypy, migrations, floors, OpenAPI")
    bench = commands.add_parser("bench", help="measure; figures are ratios within one run")
    bench.add_argument("what", choices=["gateway"])
    truth = commands.add_parser("truth", help="estimates against measurements")
    truth.add_argument("file")
    truth.add_argument("--json", action="store_true")

    given, rest = words.parse_known_args()
    if rest and given.command not in ("test", "cli", "manage"):
        words.error(f"unknown words: {' '.join(rest)}")
    return run(given, rest)


def run(given: argparse.Namespace, rest: list[str]) -> int:
    match given.command:
        case "up":
            return system.up(pretend=given.pretend, web=given.web, gateway=given.gateway)
        case "down":
            return system.down(models=given.models)
        case "demo":
            return demo.run()
        case "setup-link":
            return system.manage("setup_link")
        case "key":
            return system.manage("issue_key", given.username)
        case "cli":
            return system.cli(rest)
        case "manage":
            return system.manage(*rest)
        case "test":
            return check.test(rest, unit=given.unit, slow=given.slow)
        case "check":
            return check.check()
        case "bench":
            return check.module(f"tools.bench.{given.what}")
        case "truth":
            return check.module("tools.truth", given.file, *(["--json"] if given.json else []))
    raise AssertionError(given.command)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except PhaseFailed as failure:
        sys.exit(f"\n{failure}")
    except KeyboardInterrupt:
        sys.exit(130)
