"""What the builds of engines did differently, by a row's version or date."""

import re

from tools.truth_facts import Row

# months of llama.cpp's builds: when compressed heads were cached as such, when windows got caches of their own, when
# those came to follow the micro-batch, when flash attention became the rule, when only asked-for logits were counted
COMPRESSED_FROM, WINDOWS_FROM, WINDOWS_BY_UBATCH = (2025, 4), (2025, 5), (2025, 7)
FLASH_FROM, FEW_OUTPUTS_FROM = (2025, 9), (2026, 8)
BUILDS = ((5143, (2025, 4)), (5427, (2025, 5)), (5770, (2025, 7)), (6325, (2025, 9)), (7500, (2025, 12)),
          (10_000, (2026, 8)))  # fmt: skip
Month = tuple[int, int]


def built(row: Row) -> Month:
    """Year and month of the row's engine, from its date or its build number; a bare year is taken late in it."""
    number = re.search(r"\bb(\d{4,5})\b", row.version)
    if number:
        return max((month for build, month in BUILDS if int(number[1]) >= build), default=(2024, 1))
    date = re.search(r"(20\d\d)[-/.](\d\d?)\b", row.version)
    if date:
        return int(date[1]), int(date[2])
    year = re.search(r"20\d\d", row.version)
    return (int(year[0]), 7) if year else (2026, 1)


def minor(row: Row) -> int | None:
    """The second number of vLLM's version: 11 of v0.11.2."""
    numbers = re.search(r"(?<![\d.])0\.(\d+)", row.version)
    return int(numbers[1]) if numbers else None


def few_outputs(row: Row) -> bool:
    """Builds from mid-2026 size logits for the tokens that are sampled, not for a whole batch."""
    return built(row) >= FEW_OUTPUTS_FROM


def flash_by_itself(row: Row) -> bool:
    return built(row) >= FLASH_FROM and not row.engine.startswith("ik_")


def shares_windows(row: Row) -> bool:
    """Whether this vLLM gives windows their own blocks: builds before 2025-07 cached every layer whole."""
    if row.says("config", "disable_hybrid_kv_cache_manager"):
        return False
    number = minor(row)
    return number >= 10 if number is not None else built(row) >= (2025, 7)


def counts_requests(row: Row) -> bool:
    """Whether its "KV cache size" is concurrency times length (2026) or blocks over groups (before)."""
    number = minor(row)
    return number >= 14 if number is not None else built(row) >= (2026, 1)


def usual_fraction(row: Row) -> float:
    """The share of a card that vLLM took by itself."""
    number = minor(row)
    return 0.92 if number is not None and number >= 31 else 0.9
