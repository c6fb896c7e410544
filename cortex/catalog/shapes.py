"""The shapes of models by their source: read once, near or far, and kept until their files change."""

import glob
import threading
import time
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from django.conf import settings

from cortex.calculator.gguf import header as gguf
from cortex.calculator.gguf import shape as gguf_shape
from cortex.calculator.hf import shape as hf_shape
from cortex.calculator.shape import Shape
from cortex.calculator.unreadable import UnreadableModel
from cortex.catalog import far, files
from cortex.catalog.definition import Source
from cortex.runtime import hub

MAIN = "main"
KEPT = 64
FAR_FOR, FAILED_FOR = 600.0, 20.0
WEIGHTS = (".safetensors", ".json", ".gguf")

Marks = tuple[tuple[str, int, int], ...]


def shape_of(source: Source, *, fetch: far.Fetch | None = None) -> Shape:
    """The shape of a definition's weights: local files, a fetched snapshot, or the hub's own. Raises UnreadableModel.

    `fetch` reads ranges of the hub's files.
    """
    return near(source) or _kept.get(source, fetch)


def near(source: Source) -> Shape | None:
    """The shape of what is on this machine; None when a repository was not fetched yet. Raises UnreadableModel."""
    if not source.repository:
        return _near(files.point(source.path))
    folder = settings.ENV.cortex_models.resolve()
    snapshot = hub.present(source.repository, source.revision or MAIN, [source.path] if source.path else [], folder)
    return _near(files.point(str(snapshot.relative_to(folder) / source.path))) if snapshot else None


def size_of_file(path: str) -> int:
    """Bytes of a file below the models folder, or of the weights in a folder there. Raises UnreadableModel."""
    target = settings.ENV.cortex_models / path
    try:
        if target.is_dir():
            return sum(each.stat().st_size for each in target.glob("*.safetensors"))
        return target.stat().st_size
    except OSError as error:
        raise UnreadableModel(path, f"it cannot be read ({error.strerror}).", "Correct its path.") from error


def _near(target: Path) -> Shape:
    with files.readable(target.name):
        return _read(target, _marks(target))


@lru_cache(maxsize=KEPT)
def _read(target: Path, marks: Marks) -> Shape:
    """`marks` are part of the key: files that change are read again."""
    if target.is_dir():
        return hf_shape.read_folder(target)
    return gguf_shape.shape_of(gguf.read_set(target))


def _marks(target: Path) -> Marks:
    if target.is_dir():
        found = [path for path in target.iterdir() if path.suffix in WEIGHTS]
    else:
        part = gguf.PART.match(target.name)
        same = f"{glob.escape(part['stem'])}-*-of-{part['count']}.gguf" if part else glob.escape(target.name)
        found = list(target.parent.glob(same))
    return tuple((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(found) if path.exists())


def _far(source: Source, fetch: far.Fetch | None) -> Shape:
    token = settings.ENV.cortex_hub_token_file
    fetch = fetch or far.over_http(token.read_text().strip() if token else None)
    there = far.FarRepository(settings.ENV.cortex_hub_url, source.repository, source.revision or MAIN, fetch)
    path = source.path or _only_gguf(source.repository, there)
    if not path:
        return hf_shape.read_repository(source.repository, there.open)
    folder, _, name = path.rpartition("/")
    header = gguf.read_parts(name, lambda part: there.open(f"{folder}/{part}" if folder else part))
    return gguf_shape.shape_of(header)


def _only_gguf(repository: str, there: far.FarRepository) -> str:
    """The GGUF of a repository that has nothing else to load; empty when it holds a config.json."""
    names = there.names()
    ggufs = [name for name in names if name.endswith(".gguf") and not is_later_part(name)]
    if "config.json" in names and any(name.endswith(".safetensors") for name in names):
        return ""
    if len(ggufs) == 1:
        return ggufs[0]
    why = f"it holds {len(ggufs)} models." if ggufs else "it holds neither safetensors nor a GGUF."
    remedy = f"Name one of: {', '.join(ggufs[:30])}." if ggufs else "Choose another repository."
    raise UnreadableModel(repository, why, remedy)


def is_later_part(name: str) -> bool:
    """Whether this GGUF is a further part of a set."""
    part = gguf.PART.match(name.rpartition("/")[2])
    return part is not None and int(part["number"]) > 1


@dataclass
class _Far:
    """What the hub told, kept a while: shapes for long, failures for short."""

    found: dict[tuple[str, str, str], tuple[float, Shape | UnreadableModel]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, source: Source, fetch: far.Fetch | None) -> Shape:
        key = (source.repository, source.revision, source.path)
        with self.lock:
            until, known = self.found.get(key, (0.0, None))
        if known is None or until < time.monotonic():
            known = self._ask(source, fetch)
            self._keep(key, known)
        if isinstance(known, UnreadableModel):
            raise UnreadableModel(known.what, known.why, known.remedy)
        return known

    def _ask(self, source: Source, fetch: far.Fetch | None) -> Shape | UnreadableModel:
        try:
            return _far(source, fetch)
        except UnreadableModel as error:
            return error

    def _keep(self, key: tuple[str, str, str], known: Shape | UnreadableModel) -> None:
        kept_for = FAILED_FOR if isinstance(known, UnreadableModel) else FAR_FOR
        with self.lock:
            while len(self.found) >= KEPT:
                self.found.pop(next(iter(self.found)))
            self.found[key] = (time.monotonic() + kept_for, known)


_kept = _Far()
