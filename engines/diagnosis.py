"""From an engine's last words to a cause and a remedy."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from engines.contract import Diagnosis

QUOTED = 200


@dataclass(frozen=True)
class Rule:
    """A log line that shows a cause. Named groups of ``pattern`` may be quoted in ``cause`` and ``remedy``."""

    pattern: str
    cause: str
    remedy: str
    permanent: bool = True
    compiled: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "compiled", re.compile(self.pattern, re.IGNORECASE))

    def read(self, line: str) -> Diagnosis | None:
        """The diagnosis this line gives, or None."""
        found = self.compiled.search(line)
        if found is None:
            return None
        quoted = {name: (text or "").strip()[:QUOTED] for name, text in found.groupdict().items()}
        return Diagnosis(
            cause=self.cause.format(**quoted),
            remedy=self.remedy.format(**quoted),
            permanent=self.permanent,
            line=line,
        )


def judge(log: Sequence[str], exit_code: int | None, rules: Sequence[Rule]) -> Diagnosis | None:
    """The first rule that any line meets, the engine's own before the common ones; else what the exit code tells.

    Rules are ordered from the root of trouble to its symptoms. Of a rule's lines the first counts: what
    comes after repeats it. An exit code of 0 or None says nothing.
    """
    for rule in (*rules, *COMMON):
        for line in log:
            if (diagnosis := rule.read(line)) is not None:
                return diagnosis
    return by_exit_code(exit_code)


def by_exit_code(exit_code: int | None) -> Diagnosis | None:
    """What an exit code alone tells. Kills (137) need the runtime's word too: see ``killed``."""
    if exit_code not in EXITS:
        return None
    cause, remedy, permanent = EXITS[exit_code]
    return Diagnosis(cause=cause, remedy=remedy, permanent=permanent, line="")


def killed(exit_code: int | None, *, out_of_memory: bool) -> Diagnosis | None:
    """What a kill means; ``out_of_memory`` is the runtime's word that the container met its memory limit.

    A killed child process does not always end its server, so out of memory counts with 137 and without.
    """
    if out_of_memory:
        return Diagnosis(
            cause="The container used more host memory than it may have, and was killed.",
            remedy="Raise its memory limit, or need less: a smaller model, context, batch or prompt cache.",
            permanent=True,
            line="",
        )
    if exit_code == 137:
        return Diagnosis(
            cause="The engine was killed from outside: by somebody on the host, or by a host out of memory.",
            remedy="See the host's kernel log for 'Out of memory', and free memory there if it is named.",
            permanent=False,
            line="",
        )
    return None


EXITS: dict[int | None, tuple[str, str, bool]] = {
    126: (
        "The image's command may not be executed.",
        "Check the image: its command must be executable by the user it runs as.",
        True,
    ),
    127: ("The image has no such command.", "Check that the image is one of this engine.", True),
    132: (
        "The engine used an instruction that this host's CPU does not know.",
        "Use an image built for this CPU, or another host.",
        True,
    ),
    134: ("The engine gave up on an error of its own (abort).", "Read the end of its log; try another image.", False),
    135: (
        "The engine lost memory it had mapped (bus error): shared memory is full, or a model file changed or broke.",
        "Check the disk and the model's files, and give the container more shared memory.",
        False,
    ),
    139: (
        "The engine crashed (segmentation fault).",
        "Try again; if it returns, try another image version or fewer advanced options.",
        False,
    ),
}

COMMON = (
    Rule(
        r"(?:couldn't bind HTTP server socket.*port: (?P<port>\d+)|OSError: .*Address already in use)",
        "The engine cannot take its port inside the container.",
        "Remove extra arguments that start a second server there.",
    ),
    Rule(
        r"libcuda\.so|NVIDIA driver on your system is too old|driver version is insufficient|no CUDA-capable device"
        r"|Found no NVIDIA driver|Failed to infer device type|ggml_cuda_init: failed to initialize"
        r"|No CUDA GPUs are available|forward compatibility was attempted",
        "The engine finds no usable NVIDIA driver or GPU in its container.",
        "Check `nvidia-smi` and the NVIDIA Container Toolkit on the host, and that the driver fits the image's CUDA.",
    ),
    Rule(
        r"no kernel image is available for execution",
        "The image was not built for this GPU's architecture.",
        "Use an image built for this GPU (its compute capability), or another GPU.",
    ),
    Rule(
        r"(?:error while loading shared libraries: |ImportError: )(?P<library>lib\S+?):? ",
        "The image lacks a library: {library}.",
        "Use an image that matches the host, or rebuild it.",
    ),
    Rule(
        r"CUDA out of memory|cudaMalloc failed: out of memory|OutOfMemoryError|CUDA error: out of memory",
        "The GPU's memory is full.",
        "Need less (context, users, batch, cache type), use more or larger GPUs, or stop what else runs there.",
        permanent=False,
    ),
    Rule(
        r"NCCL (?:error|WARN.*(?:failed|timeout))|ncclSystemError|ncclUnhandledCudaError|ncclInternalError",
        "The GPUs could not talk to each other (NCCL).",
        "Turn direct GPU talk and InfiniBand off, and give the container more shared memory.",
        permanent=False,
    ),
    Rule(
        r"No space left on device",
        "A disk or the container's shared memory is full.",
        "Free space on the host, then start again.",
        permanent=False,
    ),
    Rule(
        r"(?:failed to open|PermissionError:).*Permission denied",
        "The engine may not read its model's files.",
        "Let everyone read them on the host: chmod -R a+rX on the model's folder.",
    ),
    Rule(
        r"Illegal instruction",
        "The engine used an instruction that this host's CPU does not know.",
        "Use an image built for this CPU, or another host.",
    ),
    Rule(
        r"ModuleNotFoundError: No module named '(?P<module>[^']+)'",
        "The image lacks the Python module {module}.",
        "Use an image that has it; some models need more than the official one.",
    ),
)
