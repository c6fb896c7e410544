"""The graphs of encoders: norms after each sum as in BERT, or before as in later ones."""

from collections.abc import Sequence

from cortex.calculator.llamacpp.allocator import Node
from cortex.calculator.llamacpp.blocks import F32
from cortex.calculator.llamacpp.graph import LlamaGraph

POSITIONED = "bert"  # adds rows of a table of positions, which only the oldest encoders have
POST_NORMED = frozenset({POSITIONED, "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3"})


class PostNormedGraph(LlamaGraph):
    """Encoders of the BERT kind."""

    positions: Node | None = None

    def _looked_up(self) -> Node:
        if self.options.mixed_inputs and self.shape.family == POSITIONED:
            self.positions = self.graph.expand(self._positions())
        return super()._looked_up()

    def _body(self, current: Node, layers: Sequence[int]) -> Node:
        current = self._embedded(current, layers[0])
        for index in layers:
            current = self._encoder_layer(index, current, last=index == layers[-1])
        return current

    def _positions(self) -> Node:
        """Rows of the table of positions."""
        table = self.graph.stored(self.devices)
        return self._new(self.shape.hidden, self.tokens, table, self.inputs.positions, backend=self.devices)

    def _embedded(self, looked_up: Node, first: int) -> Node:
        """Tokens plus their types and positions, normed on the first layer's device."""
        hidden, tokens = self.shape.hidden, self.tokens
        summed = self._new(hidden, tokens, looked_up, self.graph.stored(self.devices, hidden * F32), inplace=True)
        if self.shape.family == POSITIONED:
            summed = self._new(hidden, tokens, self.positions or self._positions(), summed, inplace=True)
        self._on(first)
        return self._norm(hidden, summed)

    def _encoder_layer(self, index: int, entry: Node, *, last: bool) -> Node:
        """A layer whose sums are normed; some norm the first one twice."""
        layer, hidden = self.shape.layers[index], self.shape.hidden
        self._on(index)
        mixed, tokens = self._attention(layer, entry), self.tokens
        if last:
            tokens = self.outputs
            mixed, entry = self._rows(mixed, hidden), self._rows(entry, hidden)
        attended = self._norm(hidden, self._new(hidden, tokens, mixed, entry, inplace=True), tokens)
        if "attn_norm_2" in self.shape.roles:
            attended = self._norm(hidden, self._new(hidden, tokens, attended, entry, inplace=True), tokens)
        fed = self._feed_forward(layer, attended, tokens)
        return self._norm(hidden, self._new(hidden, tokens, fed, attended, inplace=True), tokens)


class PreNormedGraph(LlamaGraph):
    """Encoders whose blocks are normed before, and whose result is normed at the end."""

    def _body(self, current: Node, layers: Sequence[int]) -> Node:
        self._on(layers[0])
        current = super()._body(self._begun(current), layers)
        self.device = self._output_device()
        return self._norm(self.shape.hidden, current, self.outputs, pinned=False)

    def _begun(self, looked_up: Node) -> Node:
        return looked_up


class ModernGraph(PreNormedGraph):
    """ModernBERT: what was looked up is normed at once, and not again by the first layer."""

    def _begun(self, looked_up: Node) -> Node:
        return self._norm(self.shape.hidden, looked_up)

    def _normed(self, index: int, entry: Node) -> Node:
        return super()._normed(index, entry) if index else entry
