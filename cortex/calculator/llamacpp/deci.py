"""The graph of DeciLM, as Nemotron Super has it: a search took attention out of some layers, or left a product."""

from cortex.calculator.llamacpp.allocator import Node
from cortex.calculator.llamacpp.graph import LlamaGraph


class DeciGraph(LlamaGraph):
    """Llama with layers that attend, that only multiply, or that only feed forward."""

    def _layer(self, index: int, entry: Node, *, last: bool) -> Node:
        layer, hidden = self.shape.layers[index], self.shape.hidden
        if layer.kv_heads:
            return super()._layer(index, entry, last=last)
        self._on(index)
        if not layer.heads:
            return self._second_half(layer, self._rows(entry, hidden) if last else entry, last)
        tokens = self.outputs if last else self.tokens
        mixed = self._matmul(hidden, self._norm(hidden, entry))
        if last:
            mixed, entry = self._rows(mixed, hidden), self._rows(entry, hidden)
        return self._second_half(layer, self._new(hidden, tokens, mixed, entry, inplace=True), last)
