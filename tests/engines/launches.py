"""Launches for the tests of engines."""

from pathlib import PurePosixPath

from engines.contract import Launch, ModelFiles

GPU_A = "GPU-11111111-1111-1111-1111-111111111111"
GPU_B = "GPU-22222222-2222-2222-2222-222222222222"


def launch(options: dict[str, object] | None = None, **changes: object) -> Launch:
    """A tiny GGUF on the CPU of a host with eight cores."""
    wish = Launch(
        served_name="tiny",
        files=ModelFiles(path=PurePosixPath("/models/tiny.gguf"), size=1_000_000_000),
        host_models="/srv/models",
        options=options or {},
        cores=8,
    )
    return wish.model_copy(update=changes)


def value_of(argv: tuple[str, ...], flag: str) -> str | None:
    """What follows ``flag`` in an argv, in either spelling; None when the flag is not there."""
    for at, word in enumerate(argv):
        if word == flag:
            return argv[at + 1] if at + 1 < len(argv) else ""
        if word.startswith(f"{flag}="):
            return word.removeprefix(f"{flag}=")
    return None
