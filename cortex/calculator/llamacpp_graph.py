"""The graph llama.cpp computes for one micro-batch, layer by layer."""

from collections.abc import Sequence

from cortex.calculator.ggml_graph import Node, compute_buffers
from cortex.calculator.llamacpp_blocks import F32, I32, I64
from cortex.calculator.llamacpp_mixers import Mixers
from cortex.calculator.llamacpp_options import HOST
from cortex.calculator.shape import Layer

SCALED_INPUT = ("gemma", "granite", "minicpm", "grok")
SCALED_AT_ONCE = ("granite", "minicpm", "grok")
# families that pick the rows of the output after the last layer, and those of them that norm all rows before
NORMED_WHOLE = frozenset({"qwen35", "qwen35moe", "qwen3next", "gemma4", "nemotron_h", "nemotron_h_moe"})
LATE_ROWS = NORMED_WHOLE | {"gpt-oss", "mimo2", "step35"}
PARALLEL = frozenset({"command-r", "cohere2", "cohere2moe", "gptneox", "phi2", "falcon", "stablelm"})
POST_NORMED = frozenset({"bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3"})
POSITIONED = "bert"
NORMED_AFTER = frozenset({"olmo2", "exaone4"})  # each block's result is normed, not what goes in
RESIDUAL_FIRST = frozenset({"jamba", "lfm2", "lfm2moe"})  # sums take over the residual's memory
SECOND_NORMS = frozenset({"ffn_norm", "post_attention_norm"})  # without them a layer ends after its mixer


class LlamaGraph(Mixers):
    """The whole graph of a sample of a model's layers."""

    def buffers(self, layers: Sequence[int]) -> list[int]:
        """Compute buffer per GPU, the host's last. ``layers`` are the numbers of the layers to build."""
        graph = self.graph
        current = self._scaled(self._looked_up())
        current = self._body(current, layers)
        if self.cached:
            self._head(current)
        else:
            current.kept = True
            graph.expand(current)
        copies = 4 if self._pipelined() else 1
        return compute_buffers(graph, copies)

    positions: Node | None = None

    def _looked_up(self) -> Node:
        """The tokens' rows of the table, beside room for a batch given as vectors, which is kept though unused."""
        graph, hidden, tokens = self.graph, self.shape.hidden, self.tokens
        if self.options.mixed_inputs and self.shape.family == POSITIONED:
            self.positions = graph.expand(self._positions())
        table = graph.stored(self.devices)
        looked_up = graph.expand(self._new(hidden, tokens, graph.input(tokens * I32), table, backend=self.devices))
        graph.expand(graph.input(hidden * tokens * F32))
        if self.options.mixed_inputs:
            mixed = graph.expand(self._new(hidden, tokens, graph.input(tokens * I32), table, backend=self.devices))
            given = self._new(hidden, tokens, graph.input(hidden * tokens * F32), backend=self.devices)
            graph.expand(graph.written(graph.expand(given), mixed, graph.input(tokens * I64)))
            given.kept = True
        return looked_up

    def _scaled(self, looked_up: Node) -> Node:
        if not self.shape.family.startswith(SCALED_INPUT):
            return looked_up
        scaled = self._new(self.shape.hidden, self.tokens, looked_up, inplace=True)
        return self.graph.expand(scaled) if self.shape.family.startswith(SCALED_AT_ONCE) else scaled

    def _body(self, current: Node, layers: Sequence[int]) -> Node:
        """All layers, one after the other."""
        step = self._layer
        if self.shape.family in POST_NORMED:
            step, current = self._encoder_layer, self._embedded(current, layers[0])
        for index in layers:
            current = step(index, current, last=index == layers[-1])
        return current

    def _on(self, index: int) -> None:
        place = self.placement.layers[index]
        self.apart = index < self.options.expert_layers_on_host
        self.device = self.devices if place == HOST else place

    def _positions(self) -> Node:
        """Rows of the table of positions, which only the oldest encoders have."""
        table = self.graph.stored(self.devices)
        return self._new(self.shape.hidden, self.tokens, table, self.inputs.positions, backend=self.devices)

    def _embedded(self, looked_up: Node, first: int) -> Node:
        """Tokens plus their types and positions, normed on the first layer's device."""
        hidden, tokens = self.shape.hidden, self.tokens
        summed = self._new(hidden, tokens, looked_up, inplace=True, backend=self.devices)
        if self.shape.family == POSITIONED:
            summed = self._new(hidden, tokens, self.positions or self._positions(), summed, inplace=True)
        self._on(first)
        return self._norm(hidden, summed)

    def _encoder_layer(self, index: int, entry: Node, *, last: bool) -> Node:
        """A layer of the BERT kind: norms after each sum."""
        layer, hidden = self.shape.layers[index], self.shape.hidden
        self._on(index)
        mixed, tokens = self._attention(layer, entry), self.tokens
        if last:
            tokens = self.outputs
            mixed, entry = self._rows(mixed, hidden), self._rows(entry, hidden)
        attended = self._norm(hidden, self._new(hidden, tokens, mixed, entry, inplace=True), tokens)
        fed = self._feed_forward(layer, attended, tokens)
        return self._norm(hidden, self._new(hidden, tokens, fed, attended, inplace=True), tokens)

    def _pipelined(self) -> bool:
        options = self.options
        whole = self.placement.whole and options.cache_on_gpu and not options.expert_layers_on_host
        return options.pipelined and self.devices > 1 and whole

    def _layer(self, index: int, entry: Node, *, last: bool) -> Node:
        layer, shape = self.shape.layers[index], self.shape
        self._on(index)
        normed = entry if shape.family in NORMED_AFTER else self._norm(shape.hidden, entry)
        mixed = self._mix(layer, entry, normed)
        tokens, residual, feed = self.tokens, entry, normed
        if layer.state and layer.kv_heads:  # both mixers at once: summed before the last layer picks its rows
            summed = self._new(shape.hidden, tokens, mixed, residual, inplace=True)
            return self._second_half(layer, self._rows(summed, shape.hidden) if last else summed, last)
        if last and shape.family not in LATE_ROWS:
            tokens = self.outputs
            mixed, residual = self._rows(mixed, shape.hidden), self._rows(entry, shape.hidden)
            feed = self._rows(normed, shape.hidden) if shape.family in PARALLEL else normed
        if shape.family in PARALLEL:
            added = self._new(shape.hidden, tokens, self._feed_forward(layer, feed, tokens), residual, inplace=True)
            return self._new(shape.hidden, tokens, added, mixed, inplace=True)
        if "post_attention_norm" in shape.roles and ("ffn_norm" in shape.roles or shape.family in NORMED_AFTER):
            mixed = self._norm(shape.hidden, mixed, tokens)
        pair = (residual, mixed) if shape.family in RESIDUAL_FIRST else (mixed, residual)
        return self._second_half(layer, self._new(shape.hidden, tokens, *pair, inplace=True), last)

    def _second_half(self, layer: Layer, summed: Node, last: bool) -> Node:
        """The feed-forward block on what the mixer left, with its residual."""
        shape = self.shape
        tokens = self.outputs if last and shape.family not in LATE_ROWS else self.tokens
        if not SECOND_NORMS & shape.roles:
            return summed
        source = summed if shape.family in NORMED_AFTER else self._norm(shape.hidden, summed, tokens)
        fed = self._feed_forward(layer, source, tokens)
        if "post_ffw_norm" in shape.roles:
            fed = self._norm(shape.hidden, fed, tokens, pinned=False)
        pair = (summed, fed) if shape.family in RESIDUAL_FIRST | {"phi3"} else (fed, summed)
        return self._new(shape.hidden, tokens, *pair, inplace=True)

    def _rows(self, source: Node, width: int) -> Node:
        return self._new(width, self.outputs, source, self.inputs.rows)

    def _head(self, current: Node) -> None:
        shape = self.shape
        self.device = self.devices if self.placement.output == HOST else self.placement.output
        if shape.family in NORMED_WHOLE:
            whole = self._norm(shape.hidden, current, pinned=False)
            whole.kept = True
            normed = self._rows(whole, shape.hidden)
        else:
            if shape.family in LATE_ROWS:
                current.kept = True
                current = self._rows(current, shape.hidden)
            normed = self._norm(shape.hidden, current, self.outputs, pinned=False)
        normed.kept = True
        logits = self._matmul(shape.vocab, normed, self.outputs, shape.output_bytes or shape.embedding)
        logits.kept = True
        self.graph.expand(logits)
