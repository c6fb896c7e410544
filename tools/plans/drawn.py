"""Models and options drawn by chance from a seed: nobody chose what the calculator is judged on."""

from collections.abc import Iterator
from random import Random

from tools.plans.layouts import Model

COUNT = 160
CONTEXTS = (512, 2048, 4096, 6000, 8192, 16384, 32768, 65536, 100_000)
CACHE_TYPES = ("f16", "f16", "q8_0", "q4_0", "bf16", "q5_1", "iq4_nl")
BATCHES = (32, 64, 128, 256, 512, 512, 512, 1024, 2048)


def drawn(seed: int, models: list[Model], further: list[Model]) -> Iterator[tuple[Model, int, list[str]]]:
    """A model, a number of GPUs and llama.cpp's arguments, of COUNT draws: every second one of ``further``.

    Several GPUs without shares are left out: llama.cpp then splits by what each has free just now.
    """
    chance = Random(seed)  # noqa: S311
    for number in range(COUNT):
        model = chance.choice(further if number % 2 else models)
        devices = chance.choice((1, 1, 2, 2, 3, 4))
        words = arguments(chance, model, devices)
        if devices == 1 or "-ts" in words:
            yield model, devices, words


def arguments(chance: Random, model: Model, devices: int) -> list[str]:
    layers = model.number("block_count")
    words = ["-c", str(chance.choice(CONTEXTS)), "-ub", str(chance.choice(BATCHES))]
    words += ["-np", str(chance.randint(2, 8))] if chance.random() < 0.5 else []
    flash = chance.choice(("on", "on", "auto", "off"))
    key_type = chance.choice(CACHE_TYPES)
    value_type = "f16" if flash == "off" else chance.choice(CACHE_TYPES)
    if "attention.kv_lora_rank" in model.keys:  # compressed caches are of one type
        key_type = value_type
    words += ["-fa", flash, "-ctk", key_type, "-ctv", value_type]
    words += ["-ngl", "999" if chance.random() < 0.6 else str(chance.randint(1, layers))]
    if devices > 1 and chance.random() < 0.8:
        words += ["-ts", ",".join(str(chance.randint(1, 5)) for _ in range(devices))]
    for flag, share in (("-nkvo", 0.1), ("--swa-full", 0.15)):
        words += [flag] if chance.random() < share else []
    if "expert_count" in model.keys and chance.random() < 0.4:
        words += ["-ncmoe", str(chance.randint(1, layers))]
    return words
