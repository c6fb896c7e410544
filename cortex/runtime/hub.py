"""Models from a Hugging Face hub: whole snapshots or chosen files, resumed where they were cut."""

import errno
import fcntl
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.utils.tqdm import tqdm

from cortex.runtime.contract import DiskFull, ModelRefused, PullProgress, RuntimeFault, Unreachable
from cortex.sizes import gib

HUB = "hub"
WORKERS = 4
TIMEOUT = 15.0
PART = re.compile(r"-\d{5}-of-(\d{5})\.gguf$")
SPARE = 1 << 30
LARGE = 64 << 20
SAFE_NAME = re.compile(r"[0-9a-zA-Z_-]{8,128}")
NETWORK = "Check this host's way to the hub; what has arrived so far is kept, and the download goes on from there."


def fetch(
    repository: str,
    revision: str,
    patterns: Sequence[str],
    folder: Path,
    on_progress: Callable[[PullProgress], None],
    token: str | None = None,
    endpoint: str | None = None,
) -> Path:
    """Download a repository's files that match ``patterns`` (all when empty); answers the snapshot's folder.

    Ask present() first: this always asks the hub. Naming one part of a multi-part GGUF fetches the whole set.
    Files lie below ``folder``/hub and appear in the snapshot only when they are complete. ``on_progress`` may
    raise to cancel; what has arrived is kept.
    Raises ModelRefused, DiskFull, Unreachable.
    """
    wanted = whole_sets(patterns) or None
    cache = folder / HUB
    with _told(repository, revision):
        info = HfApi(endpoint=endpoint, token=token or False).model_info(
            repository, revision=revision, files_metadata=True, timeout=TIMEOUT
        )
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        chosen = _matching(sizes, wanted)
        if not chosen:
            raise ModelRefused(
                f"{repository} has no file that matches {', '.join(patterns) or '*'}.",
                "Look at the names of its files on the hub.",
            )
        source = _Source(repository, str(info.sha), token, endpoint, cache)
        progress = _Progress(sum(sizes[name] for name in chosen), on_progress)
        _check_space(cache, repository, progress.total)
        for name in chosen:
            if sizes[name] >= LARGE:
                source.fill(name, progress)
        snapshot = snapshot_download(
            repository,
            revision=revision,
            cache_dir=cache,
            allow_patterns=wanted,
            token=token or False,
            endpoint=endpoint,
            max_workers=WORKERS,
            tqdm_class=progress.bar("Reconstructing"),
        )
    progress.finish()
    return Path(snapshot)


def present(repository: str, revision: str, patterns: Sequence[str], folder: Path) -> Path | None:
    """The snapshot's folder if everything that matches is there, whole; asks nobody."""
    wanted = whole_sets(patterns) or None
    try:
        found = snapshot_download(
            repository, revision=revision, cache_dir=folder / HUB, allow_patterns=wanted, local_files_only=True
        )
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    names = (str(path.relative_to(found)) for path in Path(found).rglob("*") if path.is_file())
    return Path(found) if _matching(names, wanted) else None


def whole_sets(patterns: Sequence[str]) -> list[str]:
    """The patterns, with one part of a multi-part GGUF standing for all of its parts."""
    return [PART.sub(r"-*-of-\1.gguf", pattern) for pattern in patterns]


def _matching(names: Iterable[str], patterns: Sequence[str] | None) -> list[str]:
    """The names that the hub's library would choose."""
    return [name for name in names if patterns is None or any(fnmatch(name, pattern) for pattern in patterns)]


def _check_space(cache: Path, repository: str, size: int) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    have = sum(file.stat().st_size for file in cache.glob(f"models--{repository.replace('/', '--')}/blobs/*"))
    free = shutil.disk_usage(cache).free
    if size - have > free - SPARE:
        raise DiskFull(
            f"The model takes {gib(size)}, and '{cache}' has {gib(free)} free.",
            "Free some space, or move the models folder to a larger disk.",
        )


class _Source:
    """One commit of a repository, and where its files are kept. The layout is that of the hub's own library."""

    def __init__(self, repository: str, commit: str, token: str | None, endpoint: str | None, cache: Path) -> None:
        self._repository = repository
        self._commit = commit
        self._token = token
        self._endpoint = endpoint
        self._blobs = cache / f"models--{repository.replace('/', '--')}" / "blobs"

    def fill(self, name: str, progress: "_Progress") -> None:
        """Put a large file where the library will find it.

        By itself the library forgets what it has of a file when its process ends; forty gigabytes are
        worth remembering. A second process that wants the same file waits for the first.
        """
        url = hf_hub_url(self._repository, name, revision=self._commit, endpoint=self._endpoint)
        told = get_hf_file_metadata(url, token=self._token or False, endpoint=self._endpoint)
        if told.etag is None or not SAFE_NAME.fullmatch(told.etag):
            return
        self._blobs.mkdir(parents=True, exist_ok=True)
        blob = self._blobs / told.etag
        if blob.exists():
            return
        with blob.with_name(f"{told.etag}.part").open("ab") as part:
            fcntl.flock(part, fcntl.LOCK_EX)
            if blob.exists():
                Path(part.name).unlink(missing_ok=True)
                return
            if told.size is not None and part.tell() > told.size:
                part.truncate(0)
            http_get(
                url,
                part,
                resume_size=part.tell(),
                headers={"Authorization": f"Bearer {self._token}"} if self._token else {},
                expected_size=told.size,
                tqdm_class=progress.bar(""),
            )
            part.flush()
            os.fsync(part.fileno())
            Path(part.name).replace(blob)


class _Progress:
    """Counts the bytes of all files together, from whichever thread they come."""

    def __init__(self, total: int, on_progress: Callable[[PullProgress], None]) -> None:
        self.total = total
        self._done = 0
        self._seen = 0
        self._on_progress = on_progress
        self._lock = threading.Lock()

    def add(self, size: int) -> None:
        with self._lock:
            self._done += size
            # A server that cannot resume makes the count step back; nobody is shown that.
            self._seen = max(self._seen, min(self._done, self.total))
            self._on_progress(PullProgress(done=self._seen, total=self.total))

    def finish(self) -> None:
        """What was here before counts as well."""
        self.add(self.total - self._done)

    def bar(self, title: str) -> type[tqdm]:
        """The shape that the hub's library reports in: a bar, never drawn. Those whose title begins so count."""
        progress = self

        class Bar(tqdm):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                self._counts = str(kwargs.get("desc", "")).startswith(title)
                super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]
                self.update(kwargs.get("initial") or 0)

            def update(self, n: float | None = 1) -> None:
                if self._counts:
                    progress.add(int(n or 0))

        return Bar


@contextmanager
def _told(repository: str, revision: str) -> Iterator[None]:
    """What goes wrong, as a fault of the contract."""
    try:
        yield
    except GatedRepoError as fault:
        raise ModelRefused(
            f"{repository} is gated.", "Accept its terms on its page, then give Cortex a token of that account."
        ) from fault
    except RepositoryNotFoundError as fault:
        raise ModelRefused(
            f"The hub has no model {repository}, or does not show it to us.",
            "Check the spelling; if it is private, give Cortex a token that may read it.",
        ) from fault
    except RevisionNotFoundError as fault:
        raise ModelRefused(f"{repository} has no revision '{revision}'.", "Try 'main'.") from fault
    except HFValidationError as fault:
        raise ModelRefused(f"'{repository}' is not a repository's name: {fault}", "Write owner/name.") from fault
    except HfHubHTTPError as fault:
        raise _http_fault(repository, fault) from fault
    except (httpx2.HTTPError, EntryNotFoundError, ConnectionError) as fault:
        raise Unreachable(f"The hub does not answer: {fault}.", NETWORK) from fault
    except OSError as fault:
        raise _disk_fault(repository, fault) from fault


def _http_fault(repository: str, fault: HfHubHTTPError) -> RuntimeFault:
    status = fault.response.status_code
    if status in (401, 403, 404):
        return ModelRefused(f"The hub refuses {repository} (HTTP {status}).", "Check the model's name and the token.")
    return Unreachable(f"The hub failed (HTTP {status}) while giving {repository}.", NETWORK)


def _disk_fault(repository: str, fault: OSError) -> RuntimeFault:
    if fault.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"The disk is full while fetching {repository}.", "Free some space; the download then goes on.")
    if fault.errno is None:
        return Unreachable(f"{repository} arrived incomplete: {fault}", NETWORK)
    return RuntimeFault(f"{repository} cannot be written: {fault}.", "Check who may write to the models folder.")
