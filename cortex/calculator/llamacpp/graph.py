"""The graph llama.cpp computes for one micro-batch, layer by layer."""

from collections.abc import Mapping, Sequence

from cortex.calculator.llamacpp.allocator import Node, compute_buffers
from cortex.calculator.llamacpp.blocks import F32, I32, I64
from cortex.calculator.llamacpp.mixers import Mixers
from cortex.calculator.llamacpp.places import HOST
from cortex.calculator.shape import Layer

SCALED_INPUT = ("gemma", "granite", "minicpm", "grok", "afmoe")
SCALED_AT_ONCE = ("granite", "minicpm", "grok")
# families that pick the rows of the output after the last layer, and those of them that norm all rows before
NORMED_WHOLE = frozenset({"cohere2moe", "gemma4", "nemotron_h", "nemotron_h_moe", "qwen35", "qwen35moe", "qwen3next"})
LATE_ROWS = NORMED_WHOLE | {"gpt-oss", "step35"}
EARLY_NORM = frozenset({"afmoe"})  # norm what the mixer made before they pick the rows
EARLY_ROUTED = frozenset({"smallthinker"})  # choose experts by what comes into the layer
DIFFUSING = frozenset({"dream", "llada", "llada-moe", "rnd1"})  # answer with no cache
WEIGHTLESS = frozenset({"olmo"})  # norm without weights
NORMED_INPUT = frozenset({"bloom"})  # norm what was looked up
POSITIONED = frozenset({"gpt2", "starcoder"})  # look positions up in a table
# the order in which layers that run both blocks at once sum what was fed, what was mixed and what came in
SUMS: Mapping[str, str] = {"falcon": "fmr", "plamo": "fmr", "phi2": "mfr", "stablelm": "f(mr)"}
NORMED_AFTER = frozenset({"olmo2", "exaone4"})  # each block's result is normed, not what goes in
RESIDUAL_FIRST = frozenset({"jamba", "lfm2", "lfm2moe"})  # sums take over the residual's memory
SECOND_NORMS = frozenset({"ffn_norm", "post_attention_norm", "attn_output_norm"})  # else a layer ends after its mixer
AFTER_MIXER = frozenset({"post_attention_norm", "attn_output_norm"})  # beside a norm of its own for what follows
AFTER_FEED = frozenset({"post_ffw_norm", "layer_output_norm"})


class LlamaGraph(Mixers):
    """The whole graph of a sample of a model's layers."""

    def buffers(self, layers: Sequence[int]) -> list[int]:
        """Compute buffer per GPU, the host's last. ``layers`` are the numbers of the layers to build."""
        graph = self.graph
        current = self._scaled(self._looked_up())
        current = self._body(current, layers)
        if self.cached or self.shape.family in DIFFUSING:
            self._head(current)
        else:
            current.kept = True
            graph.expand(current)
        copies = 4 if self._pipelined() else 1
        return compute_buffers(graph, copies)

    stacked: Node

    def strays(self) -> bool:
        """Whether flash attention runs elsewhere than its layer, once buffers were planned."""
        return any(node.backend != device for node, device in self.flashes)

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
        if self.shape.family in POSITIONED:
            rows = self._new(self.shape.hidden, self.tokens, self.graph.stored(self.devices), self.inputs.positions)
            rows.backend = self.devices
            return self._new(self.shape.hidden, self.tokens, looked_up, rows, inplace=True)
        if self.shape.family in NORMED_INPUT:
            self._on(0)
            return self._norm(self.shape.hidden, looked_up)
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
        place, self.number = self.placement.layers[index], index
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
        if shape.family in EARLY_ROUTED:
            self.routed = self._matmul(layer.experts, entry)
        mixed = self._mix(layer, entry, self._mixer_input(entry, normed))
        if layer.state and layer.kv_heads:  # both mixers at once: summed before the last layer picks its rows
            summed = self._new(shape.hidden, self.tokens, mixed, entry, inplace=True)
            return self._second_half(layer, self._rows(summed, shape.hidden) if last else summed, last)
        if shape.family in EARLY_NORM:
            mixed = self._norm(shape.hidden, mixed)
        if last and shape.family not in LATE_ROWS:
            mixed, entry, normed = self._picked(layer, mixed, entry, normed)
        tokens = self.outputs if last and shape.family not in LATE_ROWS else self.tokens
        if shape.parallel:
            return self._joined(layer, mixed, entry, normed, tokens)
        if self._norms_mixed():
            mixed = self._norm(shape.hidden, mixed, tokens)
        pair = (entry, mixed) if shape.family in RESIDUAL_FIRST else (mixed, entry)
        return self._second_half(layer, self._new(shape.hidden, tokens, *pair, inplace=True), last)

    def _normed(self, index: int, entry: Node) -> Node:
        """What a layer's mixer takes."""
        return entry if self.shape.family in NORMED_AFTER else self._norm(self.shape.hidden, entry)

    def _mixer_input(self, entry: Node, normed: Node) -> Node:
        """Mixers beside the feed-forward block may have a norm of their own."""
        own = self.shape.parallel and "attn_norm_2" in self.shape.roles
        return self._norm(self.shape.hidden, entry) if own else normed

    def _picked(self, layer: Layer, mixed: Node, entry: Node, normed: Node) -> tuple[Node, Node, Node]:
        """The rows that the output needs, of all that the last layer goes on with."""
        hidden = self.shape.hidden
        mixed, entry = self._rows(mixed, hidden), self._rows(entry, hidden)
        if self.routed is not None:
            self.routed = self._rows(self.routed, layer.experts)
        return mixed, entry, self._rows(normed, hidden) if self.shape.parallel else normed

    def _norms_mixed(self) -> bool:
        shape = self.shape
        if shape.family in EARLY_NORM or not AFTER_MIXER & shape.roles:
            return False
        return "ffn_norm" in shape.roles or shape.family in NORMED_AFTER

    def _joined(self, layer: Layer, mixed: Node, entry: Node, normed: Node, tokens: int) -> Node:
        """The sum of a layer whose blocks run at once."""
        hidden = self.shape.hidden
        source = self._norm(hidden, entry, tokens) if "ffn_norm" in self.shape.roles else normed
        parts = {"f": self._feed_forward(layer, source, tokens), "m": mixed, "r": entry}
        order = SUMS.get(self.shape.family, "frm")
        if "(" in order:
            first, *inner = (parts[each] for each in order if each in parts)
            return self._new(hidden, tokens, first, self._new(hidden, tokens, *inner, inplace=True), inplace=True)
        first, second, third = (parts[each] for each in order)
        return self._new(hidden, tokens, self._new(hidden, tokens, first, second, inplace=True), third, inplace=True)

    def _second_half(self, layer: Layer, summed: Node, last: bool) -> Node:
        """The feed-forward block on what the mixer left, with its residual."""
        shape = self.shape
        tokens = self.outputs if last and shape.family not in LATE_ROWS else self.tokens
        if not SECOND_NORMS & shape.roles and shape.family not in WEIGHTLESS:
            return summed
        source = summed if shape.family in NORMED_AFTER else self._norm(shape.hidden, summed, tokens)
        fed = self._feed_forward(layer, source, tokens)
        if AFTER_FEED & shape.roles:
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
