"""The graphs of Gemma 3n and 4: inputs of their own for each layer, and four streams of which one corrects the rest."""

from collections.abc import Sequence

from cortex.calculator.llamacpp.allocator import Node
from cortex.calculator.llamacpp.blocks import F32
from cortex.calculator.llamacpp.graph import LlamaGraph
from cortex.calculator.llamacpp.places import HOST
from cortex.calculator.shape import Layer

STREAMS = 4
SPARSE_LAYERS = 10  # the first ones cut their gates to the top few
LAUREL_RANK = 64


class LayerInputsGraph(LlamaGraph):
    """Each layer takes a projection of the tokens of its own, where the model has them."""

    def _body(self, current: Node, layers: Sequence[int]) -> Node:
        self._on(layers[0])
        inputs = self._layer_inputs(current) if self.shape.per_layer_input else None
        for index in layers:
            current = self._layer(index, current, last=index == layers[-1])
            current = current if inputs is None else self._injected(current, inputs)
        return current

    def _second_half(self, layer: Layer, summed: Node, last: bool) -> Node:
        """Experts work beside a dense block, each with norms of its own; the router sees what came in."""
        if not layer.experts:
            return super()._second_half(layer, summed, last)
        hidden, tokens = self.shape.hidden, self.tokens
        fed = self._dense(layer.ff, self._norm(hidden, summed), tokens, layer.weights.largest)
        seen = self._new(hidden, tokens, self._norm(hidden, summed), inplace=True)
        self.routed = self._matmul(layer.experts, seen)
        chosen = self._norm(hidden, self._experts(layer, self._norm(hidden, summed), tokens))
        both = self._new(hidden, tokens, self._norm(hidden, fed), chosen, inplace=True)
        return self._new(hidden, tokens, self._norm(hidden, both, pinned=False), summed, inplace=True)

    def _injected(self, current: Node, inputs: Node) -> Node:
        hidden, tokens = self.shape.hidden, self.tokens
        narrow = self._matmul(self.shape.per_layer_input, current)
        narrow = self._new(self.shape.per_layer_input, tokens, narrow, self._own(inputs), inplace=True)
        back = self._norm(hidden, self._matmul(hidden, narrow))
        return self._new(hidden, tokens, current, back, inplace=True)

    def _own(self, inputs: Node) -> Node:
        """The present layer's slice."""
        return self.graph.view(inputs, self.shape.per_layer_input * self.tokens * F32)

    def _all_inputs(self) -> int:
        return self.shape.per_layer_input * len(self.shape.trunk)

    def _layer_inputs(self, current: Node) -> Node:
        """What each layer takes of the tokens directly, projected for all layers at once."""
        width, tokens, graph = self._all_inputs(), self.tokens, self.graph
        looked_up = self._new(width, tokens, graph.stored(self.devices), graph.input(tokens * 4), backend=self.devices)
        scaled = graph.expand(self._new(width, tokens, graph.view(looked_up), inplace=True))
        projected = self._norm(width, graph.view(self._matmul(width, current)), pinned=False)
        summed = self._new(width, tokens, projected, scaled, inplace=True)
        return self._new(width, tokens, graph.view(summed))


class AltupGraph(LayerInputsGraph):
    """Keeps STREAMS times the width between layers."""

    def _body(self, current: Node, layers: Sequence[int]) -> Node:
        self._on(layers[0])
        inputs = self._layer_inputs(current)
        streams = self._spread(current)
        for index in layers:
            self._on(index)
            streams = self._altup_layer(index, streams, inputs)
        return self._rows(self._merge(streams), self.shape.hidden)

    def _at_output(self, width: int, source: Node) -> Node:
        """A product with a weight that lies beside the head."""
        place = self.placement.output
        return self._new(width, self.tokens, source, backend=self.devices if place == HOST else place)

    def _spread(self, current: Node) -> Node:
        width, tokens, graph = (STREAMS - 1) * self.shape.hidden, self.tokens, self.graph
        repeated = self._new(width, tokens, current)
        others = self._rescaled(self._at_output(width, repeated), current)
        return self._new(width + self.shape.hidden, tokens, current, graph.view(others))

    def _rescaled(self, others: Node, active: Node) -> Node:
        """All streams but the active one, brought to its magnitude."""
        width = (STREAMS - 1) * self.shape.hidden
        scaled = self._new(width, self.tokens, others, self._magnitude(active, self.shape.hidden, 1))
        return self._new(width, self.tokens, scaled, self._magnitude(others, width, STREAMS - 1), inplace=True)

    def _magnitude(self, source: Node, width: int, streams: int) -> Node:
        squares = self._new(width, self.tokens, source, inplace=True)
        return self._new(streams, self.tokens, self._new(streams, self.tokens, squares), inplace=True)

    def _merge(self, streams: Node) -> Node:
        hidden, tokens, graph = self.shape.hidden, self.tokens, self.graph
        width = (STREAMS - 1) * hidden
        active = graph.view(streams, hidden * tokens * F32)
        others = self._rescaled(self._at_output(width, graph.view(streams, width * tokens * F32)), active)
        merged = self._new(hidden, tokens, graph.view(streams, hidden * tokens * F32), graph.view(others))
        for _ in range(STREAMS - 2):
            merged = self._new(hidden, tokens, merged, graph.view(others), inplace=True)
        return merged

    def _altup_layer(self, index: int, streams: Node, inputs: Node) -> Node:
        layer, hidden, tokens, graph = self.shape.layers[index], self.shape.hidden, self.tokens, self.graph
        predictions = self._predicted(streams)
        active = graph.view(predictions, hidden * tokens * F32, row=hidden)
        normed = self._norm(hidden, active)
        laurel = self._norm(hidden, self._matmul(hidden, self._matmul(LAUREL_RANK, normed)))
        laurel = self._new(hidden, tokens, laurel, normed, inplace=True)
        mixed = self._norm(hidden, self._attention(layer, normed))
        mixed = self._new(hidden, tokens, mixed, active, inplace=True)
        joined = self._new(hidden, tokens, mixed, laurel, inplace=True)
        fed = self._gated(layer, self._norm(hidden, joined), sparse=index < SPARSE_LAYERS)
        activated = self._new(hidden, tokens, self._norm(hidden, fed, pinned=False), joined, inplace=True)
        return self._corrected(predictions, activated, active, inputs)

    def _routed(self, source: Node, coefficients: int) -> Node:
        """How much each stream gives to each other one."""
        modalities = self._matmul(STREAMS, self._norm(self.shape.hidden, source))
        return self._matmul(coefficients, modalities)

    def _predicted(self, streams: Node) -> Node:
        width, tokens, graph = STREAMS * self.shape.hidden, self.tokens, self.graph
        routed = self._routed(graph.view(streams, row=0), STREAMS * STREAMS)
        product = self._new(width, tokens, self._new(width, tokens, graph.view(streams)), routed)
        return self._new(width, tokens, self._new(width, tokens, product), streams, inplace=True)

    def _gated(self, layer: Layer, normed: Node, *, sparse: bool) -> Node:
        tokens, weight = self.tokens, layer.weights.largest
        up, gate = self._matmul(layer.ff, normed, 0, weight), self._matmul(layer.ff, normed, 0, weight)
        if sparse:
            mean = self._new(1, tokens, gate)
            variance = self._new(1, tokens, self._new(layer.ff, tokens, gate, mean))
            spread = self._new(1, tokens, mean, variance, inplace=True)
            gate = self._new(layer.ff, tokens, gate, spread, inplace=True)
        inner = self._new(layer.ff, tokens, up, gate, inplace=True)
        return self._matmul(self.shape.hidden, inner, 0, weight)

    def _corrected(self, predictions: Node, activated: Node, active: Node, inputs: Node) -> Node:
        hidden, tokens, width = self.shape.hidden, self.tokens, STREAMS * self.shape.hidden
        routed = self._new(STREAMS, tokens, self._routed(activated, STREAMS))
        news = self._new(width, tokens, self._new(hidden, tokens, activated, active, inplace=True))
        weighed = self._new(width, tokens, news, routed, inplace=True)
        corrected = self._new(width, tokens, weighed, predictions, inplace=True)
        own = self._new(hidden, tokens, corrected, backend=self.device)
        narrow = self._matmul(self.shape.per_layer_input, own)
        narrow = self._new(self.shape.per_layer_input, tokens, narrow, self._own(inputs), inplace=True)
        first = self._norm(hidden, self._matmul(hidden, narrow))
        rest = self._new(width - hidden, tokens, self.graph.view(corrected, (width - hidden) * tokens * F32), first)
        return self._new(width, tokens, self.graph.view(corrected, hidden * tokens * F32), rest)
