"""Definitions in files: YAML or JSON, one or several, in documents or lists."""

import sys
from pathlib import Path
from typing import Any

import yaml

from cortex.cli.failures import Exit, Failure

EXAMPLE = "A definition looks like {name: tiny, engine: llamacpp, source: {path: tiny.gguf}}."
Definition = dict[str, Any]


def read(file: str) -> list[Definition]:
    """All definitions of a file, `-` being stdin. Raises Failure."""
    try:
        documents = list(yaml.safe_load_all(sys.stdin.read() if file == "-" else Path(file).read_text()))
    except OSError as error:
        raise _unusable(file, error.strerror or str(error), "Check the path given to -f.") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise _unusable(file, f"It is neither YAML nor JSON: {error}", "Correct it where the message says.") from error
    definitions = [item for document in documents for item in _items(document)]
    if not definitions:
        raise _unusable(file, "It holds no definition.", EXAMPLE)
    _check(file, definitions)
    return definitions


def label(text: str) -> tuple[str, str]:
    """KEY=VALUE as both. Raises Failure."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise Failure(f"{text!r} is no label.", "It has no '='.", "Write KEY=VALUE.", Exit.USAGE)
    return key, value


def _items(document: Any) -> list[Any]:
    if document is None:
        return []
    if isinstance(document, dict) and set(document) == {"models"}:
        return _items(document["models"])
    return document if isinstance(document, list) else [document]


def _check(file: str, definitions: list[Any]) -> None:
    seen: set[str] = set()
    for number, item in enumerate(definitions, start=1):
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str) or not name:
            raise _unusable(file, f"Item {number} has no name, or is no definition.", EXAMPLE)
        if name in seen:
            raise _unusable(file, f"{name!r} is defined twice.", "Keep one of them.")
        seen.add(name)


def _unusable(file: str, why: str, next: str) -> Failure:
    return Failure(f"{file} cannot be applied.", why, next, Exit.USAGE)
