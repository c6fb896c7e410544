"""Model files below the models folder: what is there, whether it is whole, how large it is."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from django.conf import settings

from cortex.calculator.gguf.header import read_set
from cortex.calculator.hf.safetensors import INDEX, INDEX_LIMIT, files_of, read_json
from cortex.calculator.ranges import LocalFile
from cortex.calculator.unreadable import UnreadableModel
from cortex.catalog.definition import Definition, Problem, Refusal
from engines import engine

PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


@dataclass(frozen=True)
class Found:
    """Weights on disk: `path` below the models folder (a GGUF's first part, or a folder), `size` in bytes."""

    path: PurePosixPath
    size: int
    format: str


class Missing(UnreadableModel):
    """No such file or folder on this machine; it may be on another."""


def check(definition: Definition) -> None:
    """Refuse a definition whose files are missing, damaged or of a kind its engine cannot load.

    A repository is looked at when it has been fetched, not here.
    """
    if definition.source.repository:
        return
    try:
        found = locate(definition.source.path)
    except UnreadableModel as error:
        problem = Problem("/source/path", f"{error.what}: {error.why}", error.remedy)
        raise Refusal("The model's files cannot be used.", [problem]) from error
    refuse_format(definition.engine, found)


def refuse_format(engine_name: str, found: Found) -> None:
    """Raises Refusal when the engine cannot load files of this format."""
    kind = engine(engine_name)
    if found.format not in kind.formats:
        detail = f"{kind.title} does not load {found.format} files, and {found.path} is one."
        problem = Problem("/engine", detail, f"It loads {' and '.join(sorted(kind.formats))}: choose another engine.")
        raise Refusal("The engine does not fit the files.", [problem])


def locate(path: str, *, below: Path | None = None) -> Found:
    """The weights at `path`, which may be a GGUF, any part of a multi-part one, or a folder. Raises UnreadableModel."""
    folder = (below or settings.ENV.cortex_models).resolve()
    with readable(path):
        target = point(path, below=folder)
        return _safetensors(target, folder) if target.is_dir() else _gguf(target, folder)


def point(path: str, *, below: Path | None = None) -> Path:
    """The GGUF or the folder of weights that `path` means; what is in it was not read. Raises UnreadableModel."""
    folder = (below or settings.ENV.cortex_models).resolve()
    target = folder / path
    with readable(path):
        if not _resolved(target).is_relative_to(folder):
            raise UnreadableModel(path, "it leads outside the models folder.", f"Put the files below {folder}.")
        return _at(target, folder)


def _resolved(target: Path) -> Path:
    """Where a path leads. Raises UnreadableModel when it cannot lead anywhere, PermissionError."""
    try:
        target.exists()
        return target.resolve()
    except PermissionError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        why = "its links lead in a circle, or its name is none that a file can have."
        raise UnreadableModel(target.name[:80], why, "Correct the path, or put the file itself there.") from error


@contextmanager
def readable(path: str) -> Iterator[None]:
    """Files that Cortex may not read are said to be so. Raises UnreadableModel."""
    try:
        yield
    except PermissionError as error:
        remedy = f"Let everybody read the models, on their host: chmod -R a+rX {settings.ENV.cortex_models.resolve()}"
        raise UnreadableModel(path, "the files' owner does not let Cortex read them.", remedy) from error


def _at(target: Path, folder: Path) -> Path:
    if not target.exists():
        raise _unusable(target, folder)
    if target.is_dir():
        return target if (target / "config.json").exists() else _only_gguf(target, folder)
    if target.suffix == ".gguf":
        return target
    raise _unusable(target, folder)


def available() -> list[str]:
    """What the models folder offers, as paths to write in a definition; later parts of a set are left out."""
    folder = settings.ENV.cortex_models
    files = (p for p in folder.rglob("*.gguf") if not (m := PART.search(p.name)) or int(m[1]) == 1)
    folders = (p.parent for p in folder.rglob("config.json"))
    return sorted(str(p.relative_to(folder)) for p in (*files, *folders))


def _only_gguf(target: Path, folder: Path) -> Path:
    ggufs = [p for p in sorted(target.glob("*.gguf")) if not (m := PART.search(p.name)) or int(m[1]) == 1]
    if len(ggufs) == 1:
        return ggufs[0]
    why = "it holds neither a config.json nor a GGUF." if not ggufs else f"it holds {len(ggufs)} models."
    remedy = f"Name one of: {', '.join(p.name for p in ggufs)}." if ggufs else "Name a folder or file with weights."
    raise UnreadableModel(str(target.relative_to(folder)) or ".", why, remedy)


def _gguf(target: Path, folder: Path) -> Found:
    header = read_set(target)
    first = PART.sub(lambda m: f"-00001-of-{m[2]}.gguf", str(target.relative_to(folder)))
    return Found(path=PurePosixPath(first), size=header.weight_bytes, format="gguf")


def _safetensors(target: Path, folder: Path) -> Found:
    name = str(target.relative_to(folder))
    weights = [p for p in target.glob("*.safetensors") if p.is_file()]
    missing = [part for part in _indexed(target, name) if not (target / part).exists()]
    if missing:
        raise UnreadableModel(name, f"its index names {missing[0]}, which is not there.", "Fetch the missing parts.")
    if not weights:
        raise UnreadableModel(name, "it holds no .safetensors file.", "Fetch the weights next to config.json.")
    return Found(path=PurePosixPath(name), size=sum(p.stat().st_size for p in weights), format="safetensors")


def _indexed(target: Path, name: str) -> list[str]:
    index = target / INDEX
    if not index.exists():
        return []
    try:
        return files_of(read_json(LocalFile(index), INDEX_LIMIT), INDEX)
    except UnreadableModel as error:
        raise UnreadableModel(name, f"its index cannot be read: {error.why}", "Fetch it again.") from error


def _unusable(target: Path, folder: Path) -> UnreadableModel:
    name = str(target.relative_to(folder))
    if not target.exists():
        return Missing(name, "no such file in the models folder.", f"Put it below {folder}, or correct the path.")
    return UnreadableModel(name, "it is neither a GGUF nor a folder of weights.", "Name a .gguf file or a folder.")
