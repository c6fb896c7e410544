"""Other files of the same model: other quantizations, other formats, on this machine or on the hub."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from django.conf import settings

from cortex.calculator.shape import Shape
from cortex.calculator.unreadable import UnreadableModel
from cortex.catalog import far, files, shapes
from cortex.catalog.definition import Source
from cortex.runtime import hub

MOST_READ = 6
KEPT_FOR, KEPT = 600.0, 64
PART = re.compile(r"-\d{5}-of-\d{5}$")
# what publishers add to a model's name for a quantization or a format
MARK = re.compile(
    r"[-_.]((?:ud-)?i?q\d\w*|[bf]?f?p?(?:16|32)|fp8\w*|awq|gptq|int[48]|w\d+a\d+|mxfp4\w*|nvfp4\w*|tq\d_\d|[48]bits?|bnb"
    r"|gguf|dynamic|quantized|i1|imatrix)$",
    re.IGNORECASE,
)

Others = Callable[[Source], Iterator[Source]]
"""Takes a source; yields those that by their names hold the same model."""


def kin(name: str) -> str:
    """The name of a model without what tells of its quantization and its format."""
    stem = PART.sub("", name.removesuffix(".gguf"))
    while found := MARK.search(stem):
        stem = stem[: found.start()]
    return stem.lower()


def label(source: Source) -> str:
    """What tells a source from its siblings, for eyes."""
    stem = PART.sub("", _name(source).removesuffix(".gguf"))
    found = MARK.search(stem)
    return found[1].upper() if found else stem


def _name(source: Source) -> str:
    return PurePosixPath(source.path or source.repository).name


def of(source: Source) -> Iterator[Source]:
    """Everything that by its name holds the same model, near before far; a hub that is silent has nothing."""
    wanted = kin(_name(source))
    for path in files.available():
        if not path.startswith(f"{hub.HUB}/") and kin(PurePosixPath(path).name) == wanted:
            yield Source(path=path)
    if source.repository:
        yield from _kept.get(source)


def same_model(one: Shape, other: Shape) -> bool:
    """Whether two shapes can be the same model in different files. A vocabulary may have been padded."""
    return (len(one.trunk), one.hidden, one.heads) == (len(other.trunk), other.hidden, other.heads)


def bits(shape: Shape) -> float:
    """Bits per weight."""
    return 8 * shape.weight_bytes / shape.parameters if shape.parameters else 16.0


def on_hub(source: Source, fetch: far.Fetch | None = None) -> list[Source]:
    """Other GGUFs of the same repository, and repositories of the same owner that name the same model."""
    token = settings.ENV.cortex_hub_token_file
    fetch = fetch or far.over_http(token.read_text().strip() if token else None)
    endpoint, wanted = settings.ENV.cortex_hub_url, kin(_name(source))
    if source.path.endswith(".gguf"):
        there = far.FarRepository(endpoint, source.repository, source.revision or shapes.MAIN, fetch)
        names = [name for name in there.names() if name.endswith(".gguf") and not shapes.is_later_part(name)]
        return [source.model_copy(update={"path": name}) for name in names if kin(PurePosixPath(name).name) == wanted]
    owner, _, name = source.repository.partition("/")
    found = far.repositories(endpoint, owner, name, fetch)
    return [Source(repository=each) for each in found if kin(each.partition("/")[2]) == wanted]


@dataclass
class _Kept:
    """What the hub listed, kept a while; also that it did not answer, so that nobody waits for it twice."""

    found: dict[tuple[str, str, str], tuple[float, list[Source]]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, source: Source) -> list[Source]:
        key = (source.repository, source.revision, source.path)
        with self.lock:
            until, known = self.found.get(key, (0.0, []))
        if until >= time.monotonic():
            return known
        try:
            known = on_hub(source)
        except UnreadableModel:
            known = []
        with self.lock:
            while len(self.found) >= KEPT:
                self.found.pop(next(iter(self.found)))
            self.found[key] = (time.monotonic() + KEPT_FOR, known)
        return known


_kept = _Kept()
