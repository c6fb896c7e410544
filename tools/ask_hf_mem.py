"""Run by hf-mem's own Python: what hf-mem says of local files, asked as JSON on stdin. A transport plays its hub."""

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import httpx2
from hf_mem.run import arun  # type: ignore[import-not-found]

RANGE = re.compile(r"bytes=(\d+)-(\d+)")


def hub(folder: Path) -> httpx2.MockTransport:
    """A hub with one repository: the files of a folder, in ranges."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        name = request.url.path.rpartition("/")[2]
        if "/tree/" in request.url.path:
            found = [{"type": "file", "path": path.name, "size": path.stat().st_size} for path in folder.glob("*.gguf")]
            return httpx2.Response(200, json=found)
        wanted = RANGE.fullmatch(request.headers.get("Range", ""))
        if wanted is None or not (folder / name).exists():
            return httpx2.Response(404)
        with (folder / name).open("rb") as file:
            file.seek(int(wanted[1]))
            return httpx2.Response(206, content=file.read(int(wanted[2]) - int(wanted[1]) + 1))

    return httpx2.MockTransport(answer)


async def total(ask: dict[str, Any]) -> int | str:
    """Bytes of weights and cache, or why it has no answer."""
    try:
        found = await arun(
            "owner/model",
            experimental=True,
            gguf_file=ask["file"],
            max_model_len=ask["context"],
            batch_size=ask["slots"],
            kv_cache_dtype=ask["kind"],
        )
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        return f"{type(error).__name__}: {error}"
    return found.total_memory if isinstance(found.total_memory, int) else "it names no total"


def main() -> None:
    there = hub(Path(sys.argv[1]))
    client = httpx2.AsyncClient

    def at_home(*arguments: Any, **settings: Any) -> httpx2.AsyncClient:
        return client(*arguments, **{**settings, "transport": there})

    httpx2.AsyncClient = at_home  # type: ignore[assignment, misc]
    json.dump([asyncio.run(total(ask)) for ask in json.load(sys.stdin)], sys.stdout)


if __name__ == "__main__":
    main()
