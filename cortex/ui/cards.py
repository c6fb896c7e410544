"""Cards by their numbers: what programs are told by UUID, people read as GPU 2."""

from collections.abc import Mapping

from cortex.fleet.models import Gpu


def names() -> dict[str, str]:
    """By what reasons call a card; with its host's name where there are several hosts."""
    found = list(Gpu.objects.select_related("host"))
    several = len({gpu.host_id for gpu in found}) > 1
    told: dict[str, str] = {}
    for gpu in found:
        number = f"GPU {gpu.index} of {gpu.host}" if several else f"GPU {gpu.index}"
        told[f"{gpu.name or 'GPU'} ({gpu.uuid})"] = number
        if gpu.name:
            told[str(gpu)] = number
    return told


def numbered(words: str, names: Mapping[str, str]) -> str:
    """A reason with its cards by number; longer names first, for one may begin another."""
    for name in sorted(names, key=len, reverse=True):
        words = words.replace(name, names[name])
    return words
