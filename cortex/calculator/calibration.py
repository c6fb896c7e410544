"""What an engine's own start log says it took, and the next estimate corrected by it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from cortex.calculator.memory import Estimate, Need, Term

MIB, GIB = 1 << 20, 1 << 30
LIMIT = 1 << 50  # a log line that claims a pebibyte is not believed
RUNTIME = "runtime"
WEIGHTS = (0.5, 4.0)  # of what the files say: kernels pad, and some make 16 bits of 4
SURPRISE, ROOM = 8, 1.3


@dataclass(frozen=True, slots=True)
class Measured:
    """What one start took, in bytes per term; ``tokens`` of cache where the engine says how many it holds.

    ``devices`` are what NVML showed once ready, per card; empty when it was not asked. ``host`` holds llama.cpp's
    buffers in host memory, by the same names as ``terms``, which are the cards'.
    """

    terms: Mapping[str, int]
    tokens: int | None = None
    devices: tuple[int, ...] = ()
    host: Mapping[str, int] = field(default_factory=dict)


PATTERNS: tuple[tuple[str, str, int], ...] = (
    ("weights", r"Model loading took ([\d.]+) GiB", GIB),
    ("weights", r"Loading model weights took ([\d.]+) G[i]?B", GIB),
    ("kv_cache", r"Available KV cache memory: ([\d.]+) GiB", GIB),
    ("cuda_graphs", r"Graph capturing finished in .*took ([\d.]+) GiB", GIB),
    ("activation", r"peak activation memory takes ([\d.]+) ?GiB", GIB),
    ("weights", r"Load weight end\..*mem usage=([\d.]+) GB", GIB),
    ("cuda_graphs", r"Capture cuda graph end\..*mem usage=([\d.]+) GB", GIB),
)
# llama.cpp prints one line per device and context: they are summed, those of cards apart from those of the host
BUFFER = re.compile(
    r"\b(?:(?P<card>CUDA\d+)|CPU\w*|CUDA_Host|AMX) +"
    r"(?P<kind>model|KV|RS|compute|output) buffer size = +(?P<size>[\d.]+) MiB"
)
KINDS = {"model": "weights", "KV": "kv_cache", "RS": "state", "compute": "compute", "output": "outputs"}
TOKENS = (r"[GC]PU KV cache size: ([\d,]+) tokens", r"KV Cache is allocated.*#tokens: ([\d,]+)")
SIDES = re.compile(r"KV Cache is allocated.*K size: ([\d.]+) GB, V size: ([\d.]+) GB")


def read_log(lines: Iterable[str], devices: tuple[int, ...] = ()) -> Measured:
    """The terms an engine's start log names. Lines that say nothing of memory are passed over."""
    terms: dict[str, int] = {}
    host: dict[str, int] = {}
    tokens: int | None = None
    for line in lines:
        _read_line(line, terms, host)
        found = _tokens(line)
        tokens = tokens if found is None else found
    return Measured(_believed(terms), tokens, devices, _believed(host))


def _believed(terms: Mapping[str, int]) -> dict[str, int]:
    return {name: size for name, size in terms.items() if 0 <= size < LIMIT}


def _read_line(line: str, terms: dict[str, int], host: dict[str, int]) -> None:
    for name, pattern, unit in PATTERNS:
        match = re.search(pattern, line)
        if match:
            terms[name] = _size(match[1], unit)
            return
    buffer = BUFFER.search(line)
    if buffer:
        side, name = terms if buffer["card"] else host, KINDS[buffer["kind"]]
        side[name] = side.get(name, 0) + _size(buffer["size"], MIB)
        return
    sides = SIDES.search(line)
    if sides:
        terms["kv_cache"] = _size(sides[1], GIB) + _size(sides[2], GIB)


def _size(text: str, unit: int) -> int:
    try:
        return int(float(text) * unit)
    except (ValueError, OverflowError):
        return -1


def _tokens(line: str) -> int | None:
    for pattern in TOKENS:
        match = re.search(pattern, line)
        if match and len(match[1]) < 20 and match[1].strip(","):
            return int(match[1].replace(",", ""))
    return None


def calibrated(estimate: Estimate, measured: Measured) -> Estimate:
    """The estimate with its terms corrected by what the same model, engine version and card took before.

    A term that was measured replaces its guess within 3 %; what NVML showed beyond all terms corrects the runtime.
    """
    count = len(estimate.gpus)
    gpus = tuple(_corrected(need, measured, count, index) for index, need in enumerate(estimate.gpus))
    note = "Corrected by what an earlier start of this model measured."
    return replace(estimate, gpus=gpus, assumptions=(*estimate.assumptions, note))


def _corrected(need: Need, measured: Measured, cards: int, index: int) -> Need:
    terms = tuple(_term(term, measured, need, cards) for term in need.terms)
    if index >= len(measured.devices):
        return Need(terms)
    rest = measured.devices[index] - sum(term.likely for term in terms if term.name != RUNTIME)
    return Need(tuple(_around(term, rest) if term.name == RUNTIME and rest > 0 else term for term in terms))


def _term(term: Term, measured: Measured, need: Need, cards: int) -> Term:
    """Fixed terms follow the log; caches follow what is asked now, so they stay computed."""
    size = measured.terms.get(term.name)
    if size is None or not believed(term, size, seen=True) or term.name in ("kv_cache", "state", RUNTIME):
        return term
    if term.name in ("weights", "compute") and any(each.name == "compute" for each in need.terms):
        return term if cards > 1 else _around(term, size)  # llama.cpp's lines are sums over its cards
    return _around(term, size)


def believed(term: Term, size: int, *, seen: bool) -> bool:
    """Whether a measured size can be this term's: weights follow from files, the rest may surprise.

    What NVML had ``seen`` as well may be anything that a card holds.
    """
    if not 0 < size < LIMIT:
        return False
    if term.name == "weights":
        return WEIGHTS[0] * term.likely <= size <= WEIGHTS[1] * term.likely
    return seen or size <= SURPRISE * term.high + GIB


def coherent(measured: Measured, *, per_card: bool) -> bool:
    """Whether the terms of one start had room on the cards that NVML saw; a peak need not stay there."""
    room = max(measured.devices, default=0) if per_card else sum(measured.devices)
    return not room or sum(size for size in measured.terms.values() if size > 0) <= ROOM * room


def _around(term: Term, size: int) -> Term:
    return Term(term.name, int(0.97 * size), size, int(1.03 * size) + 1, f"measured at an earlier start; {term.reason}")
