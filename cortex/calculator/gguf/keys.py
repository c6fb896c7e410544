"""A GGUF header's keys, read with their types and checked."""

from dataclasses import dataclass

from cortex.calculator.gguf.header import GgufHeader, Value, damaged


@dataclass(frozen=True, slots=True)
class Keys:
    """Typed reading of a header's keys, all under the architecture's name."""

    header: GgufHeader

    def raw(self, key: str) -> Value | None:
        return self.header.metadata.get(f"{self.header.architecture}.{key}")

    def number(self, key: str, default: int = 0) -> int:
        value = self.raw(key)
        if value is None:
            return default
        if isinstance(value, tuple) and value:
            value = max(value)
        if not isinstance(value, (int, float)) or not 0 <= value < 1 << 40:
            raise damaged(self.header.name, f"its {key} is {value}.")
        return int(value)

    def each(self, key: str, count: int, default: int = 0) -> list[int]:
        """One number per layer, whether the header has one or many."""
        value = self.raw(key)
        if isinstance(value, tuple):
            if len(value) < count or min(value) < 0:
                raise damaged(self.header.name, f"its {key} has {len(value)} entries for {count} layers.")
            return [int(number) for number in value[:count]]
        return [self.number(key, default)] * count
