"""The graph of DeepSeek V3.2 and GLM 5: compressed attention that looks only where an index points."""

from collections.abc import Sequence

from cortex.calculator.ggml import row_bytes
from cortex.calculator.llamacpp.allocator import Node
from cortex.calculator.llamacpp.blocks import F16, F32, I32, I64
from cortex.calculator.llamacpp.graph import LlamaGraph
from cortex.calculator.llamacpp.places import HOST
from cortex.calculator.shape import Layer, Mla


class IndexedGraph(LlamaGraph):
    """Each layer's queries score all cached tokens by a narrow key of its own; the mask is opened for the best."""

    present: int
    normed: Node
    source: Node
    keys_at: Node
    best: Node

    def _body(self, current: Node, layers: Sequence[int]) -> Node:
        facts, cells, graph = self.shape.index, self.options.cells(self.shape), self.graph
        self.top = min(cells, facts.top)
        self.rotation = graph.input(facts.key**2 * F32)
        self.index_slots = graph.input(self.tokens * I64)
        self.index_mask = graph.input(cells * self.tokens * F16)
        self.blanks = self._blanks(layers)
        graph.nodes[:0] = [blank for blanks in self.blanks.values() for blank in blanks]
        return super()._body(current, layers)

    def _blanks(self, layers: Sequence[int]) -> dict[int, list[Node]]:
        """Zeros of every layer, which lie ready from the start: those of layers left out go with the next one."""
        found: dict[int, list[Node]] = {index: [] for index in layers}
        places = self.placement.layers
        for index, layer in reversed(list(enumerate(self.shape.layers))):
            beside = [each for each in layers if places[each] == places[index]]
            if beside and not layer.draft:
                owner = next((each for each in beside if each >= index), beside[-1])
                found[owner].append(self._blank(places[index]))
        return found

    def _blank(self, place: int) -> Node:
        blank = Node(self.top * self.tokens * F32)
        blank.backend, blank.seen = self.devices if place == HOST else place, True
        return blank

    def _layer(self, index: int, entry: Node, *, last: bool) -> Node:
        self.present = index
        return super()._layer(index, entry, last=last)

    def _compressed_attention(self, layer: Layer, normed: Node, mla: Mla) -> Node:
        if layer.indexer:
            self.normed = normed
            self._remember_index(layer, normed)
        return super()._compressed_attention(layer, normed, mla)

    def _query_source(self, normed: Node, mla: Mla) -> Node:
        self.source = super()._query_source(normed, mla)
        return self.source

    def _remember_index(self, layer: Layer, normed: Node) -> None:
        """The narrow key of each token: normed with its mean, turned, and spread by a rotation."""
        graph, tokens, width = self.graph, self.tokens, layer.indexer
        centred = self._new(width, tokens, self._matmul(width, normed))
        scaled = self._new(width, tokens, centred, inplace=True, backend=self.device)
        self.keys_at = graph.stored(self._cache_device(layer))
        graph.expand(graph.written(self.keys_at, graph.view(self._spread(width, scaled)), self.index_slots))

    def _spread(self, width: int, source: Node) -> Node:
        turned = self._new(width, self.tokens, self.graph.view(source), self.inputs.positions)
        return self._new(width, self.tokens, self.rotation, turned)

    def _scored(self, layer: Layer) -> Node:
        """The numbers of the tokens that this layer's queries look at."""
        graph, tokens, cells = self.graph, self.tokens, self.options.cells(self.shape)
        heads = self.shape.index.heads
        width = heads * layer.indexer
        query = graph.view(self._spread(width, self._matmul(width, self.source)))
        weights = self._new(heads, tokens, graph.view(self._matmul(heads, self.normed)))
        keys = graph.view(self.keys_at, row_bytes(self.options.key_type, layer.indexer) * cells * self.streams)
        scores = Node(cells * tokens * F32, (query, keys, weights, self.index_mask))
        return Node(self.top * tokens * I32, (Node(self.top * tokens * I32, (scores,)),))

    def _mask(self, window: int) -> Node:
        """The mask, closed and then opened for the best tokens."""
        layer, graph, mask = self.shape.layers[self.present], self.graph, super()._mask(window)
        if layer.indexer:
            self.best = self._scored(layer)
        blanks = self.blanks[self.present]
        zeros = Node(blanks[0].size, tuple(blanks), inplace=True)
        closed = Node(mask.size, (mask,))
        opened = graph.written(closed, zeros, graph.view(self.best), graph.view(closed))
        return Node(mask.size, (graph.view(opened, mask.size), mask), inplace=True)
