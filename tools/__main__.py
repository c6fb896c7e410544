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
    _add_ports(up)
    up.set_defaults(run=lambda g, _: system.up(pretend=g.pretend, web=g.web, gateway=g.gateway))
    down = commands.add_parser("down", help="stop everything that up started; models go on running")
    down.add_argument("--models", action="store_true", help="order every model to stop first, and wait for it")
    down.set_defaults(run=lambda g, _: system.down(models=g.models))
    demo_ = commands.add_parser("demo", help="from nothing to a streamed answer, on this machine")
    _add_ports(demo_)
    demo_.set_defaults(run=lambda g, _: demo.run(web=g.web, gateway=g.gateway))
    link = commands.add_parser("setup-link", help="a fresh one-time link for the first administrator")
    link.set_defaults(run=lambda g, _: system.manage("setup_link"))
    key = commands.add_parser("key", help="an API key for a person, shown once")
    key.add_argument("username")
    key.set_defaults(run=lambda g, _: system.manage("issue_key", g.username))
    cli = commands.add_parser("cli", help="the cortex command, against what runs here", add_help=False)
    cli.set_defaults(run=lambda _, rest: system.cli(rest), takes_more=True)
    manage = commands.add_parser("manage", help="manage.py, with what runs here as its database", add_help=False)
    manage.set_defaults(run=lambda _, rest: system.manage(*rest), takes_more=True)
    _add_checks(commands)

    given, rest = words.parse_known_args()
    if rest and "takes_more" not in given:
        words.error(f"unknown words: {' '.join(rest)}")
    status: int = given.run(given, rest)
    return status


def _add_ports(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--web", type=_port, default=8000, metavar="PORT", help="port of the UI and REST (8000)")
    parser.add_argument("--gateway", type=_port, default=8001, metavar="PORT", help="port of the models' API (8001)")


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: name a number from 1 to 65535")
    return int(text)


def _add_checks(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    test = commands.add_parser("test", help="every test, with coverage; more words go to pytest")
    test.add_argument("--unit", action="store_true", help="only the fast ones, without sockets")
    test.add_argument("--slow", action="store_true", help="the slow ones too")
    test.add_argument("--faults", action="store_true", help="the 50 faults alone, for real; writes docs/faults.md")
    test.set_defaults(
        run=lambda g, rest: check.test(rest, unit=g.unit, slow=g.slow, all_faults=g.faults), takes_more=True
    )
    checks = commands.add_parser("check", help="ruff, mypy, migrations, floors, OpenAPI")
    checks.set_defaults(run=lambda g, _: check.check())
    bench = commands.add_parser("bench", help="measure; figures are ratios within one run; more words go to the bench")
    bench.add_argument("what", choices=["gateway", "estimate", "loop"])
    bench.set_defaults(run=lambda g, rest: check.module(f"tools.bench.{g.what}", *rest), takes_more=True)
    truth = commands.add_parser("truth", help="estimates against measurements")
    truth.add_argument("file")
    truth.add_argument("--json", action="store_true")
    truth.set_defaults(
        run=lambda g, _: check.module("tools.truth", str(system.asked_from() / g.file), *["--json"] * g.json)
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except PhaseFailed as failure:
        sys.exit(f"\n{failure}")
    except KeyboardInterrupt:
        sys.exit(130)
