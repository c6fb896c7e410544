"""The graph of MiniMax-01: lightning attention, whose state decays from block to block, beside full layers."""

from collections.abc import Sequence

from cortex.calculator.llamacpp.allocator import Node
from cortex.calculator.llamacpp.blocks import F32
from cortex.calculator.llamacpp.graph import LlamaGraph
from cortex.calculator.shape import Layer

FEW_TOKENS = 512  # up to here the states of several sequences take more than the decays of one


class LightningGraph(LlamaGraph):
    """Its matrix of decays grows with the square of a sequence's tokens.

    llama.cpp reserves for one sequence too, though it does not say so when it plans without allocating.
    """

    alone = False
    decays: tuple[Node, Node, Node, Node] | None = None

    @property
    def sequences(self) -> int:
        return 1 if self.alone else self.options.slots

    def buffers(self, layers: Sequence[int]) -> list[int]:
        together = super().buffers(layers)
        if not self.options.pinned or self.options.slots == 1 or self.tokens <= FEW_TOKENS:
            return together
        other = LightningGraph(self.shape, self.options, self.placement, self.devices)
        other.alone = True
        return [max(pair) for pair in zip(together, LlamaGraph.buffers(other, layers), strict=True)]

    @property
    def _span(self) -> int:
        """Tokens of each sequence."""
        return self.tokens // self.sequences

    def _decay_inputs(self) -> tuple[Node, Node, Node, Node]:
        """Slopes of the heads, and what queries, keys and pairs of tokens decay by: the same in all layers."""
        if self.decays is None:
            heads, tokens, graph = self.shape.heads, self.tokens, self.graph
            each = heads * tokens * F32
            self.decays = (
                graph.input(heads * F32),
                graph.input(each),
                graph.input(each),
                graph.input(each * self._span),
            )
        return self.decays

    def _layer(self, index: int, entry: Node, *, last: bool) -> Node:
        """What is added to each block's result is what went into it, normed and scaled."""
        layer, hidden, tokens = self.shape.layers[index], self.shape.hidden, self.tokens
        self._on(index)
        normed = self._norm(hidden, entry)
        mixed = self._attention(layer, normed) if layer.kv_heads else self._lightning(layer, normed)
        if last:
            tokens = self.outputs
            mixed, normed = self._rows(mixed, hidden), self._rows(normed, hidden)
        source = self._norm(hidden, self._added(mixed, normed, tokens), tokens)
        return self._added(self._feed_forward(layer, source, tokens), source, tokens)

    def _added(self, result: Node, entry: Node, tokens: int) -> Node:
        scaled = self._new(self.shape.hidden, tokens, entry, inplace=True)
        return self._new(self.shape.hidden, tokens, result, scaled, inplace=True)

    def _lightning(self, layer: Layer, normed: Node) -> Node:
        graph, tokens, inner = self.graph, self.tokens, layer.heads * layer.key
        _, query_decay, key_decay, pair_decay = self._decay_inputs()
        self._states(layer.conv)
        product = self._matmul(3 * inner, graph.view(normed))
        packed = self._new(3 * inner, tokens, product, inplace=True)
        state = graph.view(self._states(layer.state))
        query, key, value = (self._part(packed, inner, 3 * inner) for _ in range(3))
        far = self._matmul_of(inner, state, graph.view(self._decayed(inner, query, query_decay)))
        turned = self._new(inner, tokens, value)
        pairs = self._new(layer.heads * self._span, tokens, key, query)
        near = self._new(layer.heads * self._span, tokens, pairs, self._paced(pair_decay), inplace=True)
        mixed = self._new(inner, tokens, far, self._matmul_of(inner, turned, near), inplace=True)
        graph.expand(mixed)
        self._remember(layer, state, graph.view(self._decayed(inner, key, key_decay)), turned)
        return self._gated(normed, mixed, inner)

    def _matmul_of(self, width: int, left: Node, right: Node) -> Node:
        """A product of two tensors, neither a weight."""
        return self._new(width, self.tokens, left, right)

    def _paced(self, decay: Node) -> Node:
        """A decay at this layer's own pace."""
        scaled = Node(decay.size, (decay,), inplace=True)
        return Node(decay.size, (scaled,), inplace=True)

    def _decayed(self, width: int, part: Node, decay: Node) -> Node:
        return self._new(width, self.tokens, part, self._paced(decay))

    def _remember(self, layer: Layer, state: Node, key: Node, value: Node) -> None:
        """The state after this block: the old one decayed, and what came in."""
        size, slopes = layer.state * self.sequences * F32, self._decay_inputs()[0]
        pace = Node(slopes.size, (self._paced(slopes),), inplace=True)
        old = Node(size, (state, self.graph.view(pace)))
        turned = self._new(layer.heads * layer.key, self.tokens, key)
        new = Node(size, (old, Node(size, (turned, value))), inplace=True)
        self.graph.expand(self.graph.written(self._state_store(), new))

    def _gated(self, normed: Node, mixed: Node, inner: int) -> Node:
        graph, tokens = self.graph, self.tokens
        gate = self._new(inner, tokens, self._matmul(inner, graph.view(normed)), inplace=True)
        ordered = self._new(inner, tokens, graph.view(mixed))
        opened = self._new(inner, tokens, gate, self._norm(inner, graph.view(ordered)), inplace=True)
        return graph.view(self._matmul(self.shape.hidden, opened))
