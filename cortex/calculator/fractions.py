"""The share of a card that SGLang takes where nobody says it, as its start works it out from the card."""

from engines.habits import ServeOptions

MIB = 1 << 20
LARGE, LARGE_RESERVE = 60_000, 10_240
# MiB of a card below which: tokens of a prompt read at once, requests in a graph, and those from four ranks on
STEPS = ((20_000, 2048, 8, 8), (35_000, 2048, 24, 80), (60_000, 4096, 32, 160), (160_000, 8192, 256, 512))
LARGEST = (16_384, 512, 512)
GUESSING = 2048  # MiB more where a head guesses tokens ahead
LEAST = 0.1


def usual_fraction(options: ServeOptions, total: int) -> float:
    """The static share (weights and cache) of a card of ``total`` bytes; the rest is for activations and graphs."""
    size = total / MIB
    chunk, few, many = next((rest for limit, *rest in STEPS if size < limit), LARGEST)
    graphs = many if options.tensor >= 4 else few
    reserved = 512 + 1.5 * max(chunk, 2048) + 2 * graphs + options.tensor * options.pipeline / 8 * 1024
    reserved = max(reserved, LARGE_RESERVE) if size > LARGE else reserved
    reserved += GUESSING if options.draft_tokens else 0
    return max(LEAST, (size - reserved) / size) if size > 0 else LEAST
