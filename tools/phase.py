"""One phase of a tool's work, shown as it goes: name, progress, time."""

import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

LOGS = Path("var/log")
TAIL = 15


class PhaseFailed(Exception):
    """A phase of the work did not end well; the message says why and what to do next."""


class Phase:
    """Prints its progress: one line rewritten on a terminal, a line every ``pace`` seconds elsewhere."""

    def __init__(self, name: str, pace: float = 5.0) -> None:
        self.name = name
        self.pace = pace
        self.began = self.spoke = time.monotonic()
        self.ended = False

    def say(self, text: str) -> None:
        """Show where the work is."""
        now = time.monotonic()
        if sys.stdout.isatty():
            print(f"\r\x1b[K  {self._clock()}  {self.name}: {text}"[:110], end="", flush=True)
        elif now - self.spoke >= self.pace:
            self.spoke = now
            print(f"  {self._clock()}  {self.name}: {text[:100]}", flush=True)

    def end(self, text: str) -> None:
        """Show how the work ended; the first word stands."""
        if self.ended:
            return
        self.ended = True
        start = "\r\x1b[K" if sys.stdout.isatty() else ""
        print(f"{start}  {self._clock()}  {self.name}: {text}", flush=True)

    def run(
        self, *command: str, env: Mapping[str, str] | None = None, cwd: Path | None = None, timeout: float = 3600
    ) -> None:
        """Run a command with its last line as progress and its whole output in a log file.

        Raises PhaseFailed with the end of that output when the command fails or takes longer than ``timeout`` seconds.
        """
        log = LOGS / f"{Path(command[0]).name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        last: deque[str] = deque(maxlen=TAIL)
        with log.open("a", encoding="utf-8") as file, _started(command, env, cwd, timeout) as process:
            for line in _lines(process):
                file.write(line + "\n")
                last.append(line)
                self.say(line)
            code = process.wait()
        if code:
            tail = "\n    ".join(last)
            raise PhaseFailed(f"`{' '.join(command)}` ended with status {code}.\n    {tail}\n  Whole output: {log}")

    def _clock(self) -> str:
        return f"{time.monotonic() - self.began:5.1f} s"


@contextmanager
def phase(name: str) -> Iterator[Phase]:
    """A phase that says how it ended, whichever way."""
    it = Phase(name)
    it.say("…")
    try:
        yield it
    except BaseException:
        it.end("failed")
        raise
    it.end("done")


@contextmanager
def _started(
    command: tuple[str, ...], env: Mapping[str, str] | None, cwd: Path | None, timeout: float
) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        # `timeout` ends a command that hangs while silent: reading its output would wait for ever.
        ["timeout", "--kill-after=10", f"{timeout:.0f}", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, **(env or {})},
        cwd=cwd,
    )
    with process:
        try:
            yield process
        except BaseException:
            process.terminate()
            raise


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None  # noqa: S101 - PIPE was asked for
    for line in process.stdout:
        if text := line.rstrip().rsplit("\r", 1)[-1].strip():
            yield text
