"""The engines: WHAT to run. A file in this package that defines an Engine is an engine of Cortex."""

import importlib
import pkgutil
from collections.abc import Callable, Iterable

from engines.contract import Engine

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


class UnknownEngine(LookupError):
    """No engine bears this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no engine named {name!r}. Choose one of: {', '.join(sorted(all_engines()))}.")


def all_engines() -> dict[str, Engine]:
    """Every engine by its name."""
    kinds: Iterable[Callable[[], Engine]] = Engine.__subclasses__()
    return {found.name: found for found in (kind() for kind in kinds)}


def engine(name: str) -> Engine:
    """The engine named ``name``; raises UnknownEngine."""
    try:
        return all_engines()[name]
    except KeyError:
        raise UnknownEngine(name) from None
