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
NORMED_WHOLE = frozenset({"cohere2moe", "gemma4", "nemotron_h", "nemotron_h_moe", "qwen35", "qwen35moe", "qwen3next"})
LATE_ROWS = NORMED_WHOLE | {"gpt-oss", "mimo2", "step35"}
PARALLEL = frozenset({"command-r", "cohere2", "cohere2moe", "gptneox", "phi2", "falcon", "stablelm"})
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

    stacked: Node

    def _looked_up(self) -> Node:
        """The tokens' rows of the table, beside room for a batch given as vectors, which is kept though unused."""
        graph, hidden, tokens = self.graph, self.shape.hidden, self.tokens
        table = graph.stored(self.devices)
        looked_up = graph.expand(self._new(hidden, tokens, graph.input(tokens * I32), table, backend=self.devices))
        graph.expand(graph.input(hidden * (1 + self.shape.deepstack) * tokens * F32))
        if self.options.mixed_inputs:
            mixed = graph.expand(self._new(hidden, tokens, graph.input(tokens * I32), table, backend=self.devices))
            given = self._new(hidden, tokens, graph.input(hidden * tokens * F32), backend=self.devices)
            graph.expand(graph.written(graph.expand(given), mixed, graph.input(tokens * I64)))
            given.kept = True
        return self._stacked(looked_up) if self.shape.deepstack else looked_up

    def _stacked(self, looked_up: Node) -> Node:
        """The tokens' rows widened by the features of an image for each of the first layers."""
        width = (1 + self.shape.deepstack) * self.shape.hidden
        self.stacked = self.graph.expand(self._new(width, self.tokens, looked_up))
        return self._features()

    def _features(self) -> Node:
        """One of the parts that the widened rows are made of."""
        hidden = self.shape.hidden
        part = (1 + self.shape.deepstack) * hidden * (self.tokens - 1) + hidden
        return self.graph.view(self.stacked, part * F32, row=hidden)

    def _scaled(self, looked_up: Node) -> Node:
        if not self.shape.family.startswith(SCALED_INPUT):
            return looked_up
        scaled = self._new(self.shape.hidden, self.tokens, looked_up, inplace=True)
        return self.graph.expand(scaled) if self.shape.family.startswith(SCALED_AT_ONCE) else scaled

    def _body(self, current: Node, layers: Sequence[int]) -> Node:
        """All layers, one after the other."""
        for index in layers:
            current = self._layer(index, current, last=index == layers[-1])
            if index < self.shape.deepstack:
                current = self._new(self.shape.hidden, self.tokens, current, self._features(), inplace=True)
        return current

    def _on(self, index: int) -> None:
        place = self.placement.layers[index]
        self.apart = index < self.options.expert_layers_on_host
        self.device = self.devices if place == HOST else place

    def _pipelined(self) -> bool:
        options = self.options
        whole = self.placement.whole and options.cache_on_gpu and not options.expert_layers_on_host
        return options.pipelined and self.devices > 1 and whole

    def _layer(self, index: int, entry: Node, *, last: bool) -> Node:
        layer, shape = self.shape.layers[index], self.shape
        self._on(index)
        normed = self._normed(index, entry)
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

    def _normed(self, index: int, entry: Node) -> Node:
        """What a layer's mixer takes."""
        return entry if self.shape.family in NORMED_AFTER else self._norm(self.shape.hidden, entry)

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
        pair = (summed, fed) if shape.family in RESIDUAL_FIRST | {"phi3", "phimoe"} else (fed, summed)
        return self._new(shape.hidden, tokens, *pair, inplace=True)

    def _rows(self, source: Node, width: int) -> Node:
        return self._new(width, self.outputs, source, self.inputs.rows)

    def _output_device(self) -> int:
        return self.devices if self.placement.output == HOST else self.placement.output

    def _head(self, current: Node) -> None:
        shape = self.shape
        self.device = self._output_device()
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
