"""What every layer of llama.cpp's graphs is made of: products, norms, feed-forward blocks and experts."""

from dataclasses import dataclass

from cortex.calculator.llamacpp.allocator import Graph, Node
from cortex.calculator.llamacpp.places import Placement, lenders, uses_cache
from cortex.calculator.shape import Layer, Shape
from engines.habits import LlamaOptions

F32, F16, I32, I64 = 4, 2, 4, 8
CENTRED = frozenset(
    [
        "bert",
        "bloom",
        "codeshell",
        "cohere2",
        "cohere2moe",
        "command-r",
        "dbrx",
        "falcon",
        "gpt2",
        "gptneox",
        "jais",
        "jais2",
        "jina-bert-v2",
        "jina-bert-v3",
        "modern-bert",
        "mpt",
        "nemotron",
        "nomic-bert",
        "nomic-bert-moe",
        "olmo",
        "orion",
        "phi2",
        "stablelm",
        "starcoder",
        "starcoder2",
    ]
)  # norms that take the mean away
SECTIONED = frozenset({"qwen2vl", "qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe"})  # four positions per token
DENSE_BESIDE = "grok"  # its second version has a dense block beside its experts
DIVIDED_GATE = "qwen2moe"  # computes its sigmoid as a quotient
SUMMED = 3  # experts' results: each further sum takes over the one before
SMALL_BATCH = 32  # below, norms are pinned to their layer's device in any case


@dataclass
class Inputs:
    """What a graph takes from outside."""

    positions: Node
    rows: Node
    key_slots: dict[int, Node]
    value_slots: dict[int, Node]
    masks: dict[int, Node]
    narrowed: dict[tuple[int, int], Node]
    rotations: dict[tuple[str, bool], Node]
    states: Node
    other_states: Node


class Blocks:
    """Operations of one model on ``devices`` GPUs and the host; ``device`` is where the present layer runs."""

    def __init__(self, shape: Shape, options: LlamaOptions, placement: Placement, devices: int) -> None:
        self.shape, self.options, self.placement, self.devices = shape, options, placement, devices
        self.graph = Graph(devices + 1)
        self.tokens = options.tokens(shape)
        step = options.step(shape)
        self.outputs = step if options.outputs is None else min(options.outputs, step)
        self.cached = uses_cache(shape)
        self.streams = options.streams() if self.cached else 1
        self.pinned = options.pinned and (placement.whole or self.tokens < SMALL_BATCH)
        self.cells = {window: self._seen(window) for window in {layer.window for layer in shape.trunk} | {0}}
        self.windowed = len(self.cells) > 1
        self.lending = lenders(shape, options, placement)
        self.inputs = self._inputs()
        self.device = devices
        self.number = 0  # of the present layer
        self.apart = False
        self.flashes: list[tuple[Node, int]] = []  # flash attention, with its layer's device
        self.routed: Node | None = None  # what experts are chosen by, where that is known before

    def _inputs(self) -> Inputs:
        graph, tokens, shape, options = self.graph, self.tokens, self.shape, self.options
        width = F16 if options.flash and not options.wide_mask else F32
        values = max((layer.kv_heads * layer.value for layer in shape.trunk), default=0)
        states = graph.input(options.slots * I32)
        return Inputs(
            positions=graph.input(tokens * I32 * (4 if shape.family in SECTIONED else 1)),
            rows=graph.input(self.outputs * I32),
            key_slots={window: graph.input(tokens * I64) for window in self.cells},
            value_slots={window: graph.input(tokens * I64 * (1 if options.flash else values)) for window in self.cells},
            masks={window: graph.input(cells * tokens * width) for window, cells in self.cells.items()},
            narrowed={},
            rotations=self._rotations(),
            states=graph.view(states),
            other_states=graph.view(states, 0),
        )

    def _seen(self, window: int) -> int:
        """How many tokens a token may look at: the cells of the cache, or the batch itself without one."""
        if not self.cached:
            return self.tokens
        return self.options.window_cells(self.shape, window) if window else self.options.cells(self.shape)

    def _rotations(self) -> dict[tuple[str, bool], Node]:
        """Hadamard matrices that quantized caches are turned with, where all heads of a cache have one size.

        Layers with a window have a cache of their own. Sizes are multiples of 64.
        """
        rotations = {}
        for windowed in (False, True):
            for kind, side in (("key_type", "key"), ("value_type", "value")):
                size = self._head_size(side, windowed)
                quantized = not getattr(self.options, kind).startswith(("f", "bf"))
                if self.cached and quantized and size and size % 64 == 0 and self.shape.mla is None:
                    rotations[kind, windowed] = self.graph.input(_rotation(size, kind) ** 2 * F32)
        return rotations

    def _head_size(self, side: str, windowed: bool) -> int:
        layers = [layer for layer in self.shape.trunk if layer.kv_heads and (layer.window > 0) == windowed]
        sizes = {getattr(layer, side) for layer in layers}
        return int(sizes.pop()) if len(sizes) == 1 else 0

    def _new(self, width: int, tokens: int, *srcs: Node, inplace: bool = False, backend: int = -1) -> Node:
        return Node(width * tokens * F32, srcs, inplace, width, backend)

    def _part(self, fused: Node, width: int, row: int) -> Node:
        """A part of each row: to copy it takes the rows between as well."""
        return self.graph.view(fused, ((self.tokens - 1) * row + width) * F32, row=width)

    def _matmul(self, width: int, source: Node, tokens: int = 0, weight: int = 0, *more: Node) -> Node:
        """A product with a weight of the present layer."""
        lent = self.options.lends_weights and self.device == self.devices > 0 and self.tokens >= SMALL_BATCH
        if lent:
            more = (*more, self.graph.stored(self.devices, weight, weight=True))
        return self._new(width, tokens or self.tokens, source, *more, backend=0 if lent else self.device)

    def _norm(self, width: int, source: Node, tokens: int = 0, *, pinned: bool = True) -> Node:
        """A norm and its weight, whose product takes over the norm's memory: one step where both run on one device."""
        tokens, inplace = tokens or self.tokens, self.shape.family not in CENTRED
        if self.pinned and pinned:
            return self._new(width, tokens, source, inplace=inplace, backend=self.device)
        norm = self._new(width, tokens, source, inplace=inplace)
        return self._new(width, tokens, norm, inplace=True, backend=self.device)

    def _feed_forward(self, layer: Layer, source: Node, tokens: int) -> Node:
        if layer.experts:
            chosen = self._experts(layer, source, tokens)
            if self.shape.family != DENSE_BESIDE or "ffn_up" not in self.shape.roles:
                return chosen
            fed = self._dense(layer.ff, source, tokens, layer.weights.largest)
            return self._new(self.shape.hidden, tokens, fed, chosen, inplace=True)
        return self._dense(layer.ff, source, tokens, layer.weights.largest)

    def _dense(self, ff: int, source: Node, tokens: int, weight: int, *, gate: str = "ffn_gate") -> Node:
        if gate in self.shape.roles:
            opened, up = self._matmul(ff, source, tokens, weight), self._matmul(ff, source, tokens, weight)
            inner = self._new(ff, tokens, opened, up)
        elif self.shape.packed:
            inner = self._new(ff, tokens, self._matmul(2 * ff, source, tokens, weight))
        else:
            inner = self._new(ff, tokens, self._matmul(ff, source, tokens, weight), inplace=True)
        return self._matmul(self.shape.hidden, inner, tokens, weight)

    def _experts(self, layer: Layer, source: Node, tokens: int) -> Node:
        """Experts chosen for each token, which may work in a space of their own, and the one that always runs."""
        latent = self._matmul(self.shape.latent, source, tokens) if self.shape.latent else source
        chosen, shares = self._choice(layer, source, tokens)
        total = self._weighed(layer, latent, tokens, chosen, shares)
        if self.shape.latent:
            total = self._matmul(self.shape.hidden, total, tokens)
        if layer.shared_ff:
            shared = self._shared_expert(layer, source, tokens)
            total = self._new(self.shape.hidden, tokens, total, shared, inplace=True)
        return total

    def _choice(self, layer: Layer, source: Node, tokens: int) -> tuple[Node, Node]:
        """The numbers of each token's experts, and their shares."""
        graph, used = self.graph, layer.experts_used
        if self.routed is None:
            scores = self._matmul(layer.experts, source, tokens)  # made into shares where they lie
        else:
            scores = self._new(layer.experts, tokens, self.routed, inplace=True)
        ranked = scores
        if "exp_probs_b" in self.shape.roles:  # a bias that counts for the choice alone
            ranked = self._new(layer.experts, tokens, scores, inplace=True)
        order = self._new(layer.experts, tokens, ranked)
        chosen = graph.view(order, used * tokens * I32)
        shares = self._new(used, tokens, graph.view(scores), chosen)
        if self.shape.family == "gpt-oss":  # turns the shares of the chosen into weights
            shares = self._new(used, tokens, graph.view(shares))
        if self.shape.normed_shares:
            parts_of_one = graph.view(shares)
            total = self._new(1, tokens, self._new(1, tokens, parts_of_one), inplace=True)
            shares = self._new(used, tokens, parts_of_one, total)
        return chosen, graph.expand(shares)

    def _weighed(self, layer: Layer, source: Node, tokens: int, chosen: Node, shares: Node) -> Node:
        """The sum of what the chosen experts make of each token, by their shares."""
        graph, width, used = self.graph, self.shape.latent or self.shape.hidden, layer.experts_used
        weight, spread = layer.weights.largest, graph.view(source)
        early = self.shape.family == "llama4"  # weighs what goes into the experts, not what comes out
        if early:
            repeated = self._new(width * used, tokens, spread)
            spread = self._new(width * used, tokens, repeated, shares, inplace=True)
        device, self.device = self.device, self.devices if self.apart else self.device
        inner = self._expert_inner(layer.expert_ff * used, spread, tokens, weight, chosen)
        down = self._matmul(width * used, inner, tokens, weight, chosen)
        self.device = device
        weighed = down if early else self._new(width * used, tokens, down, graph.view(shares), inplace=True)
        # the sum of all parts: each addition takes over the memory of the one before
        return graph.expand(self._new(width, tokens, graph.view(weighed)))

    def _shared_expert(self, layer: Layer, source: Node, tokens: int) -> Node:
        """The expert that always runs, through a gate where it has one."""
        shared = self._dense(layer.shared_ff, source, tokens, 0, gate="ffn_gate_shexp")
        if "ffn_gate_inp_shexp" not in self.shape.roles:
            return shared
        gate = logit = self._matmul(1, source, tokens)
        if self.shape.family == DIVIDED_GATE:
            gate = self._new(1, tokens, self._new(1, tokens, logit, inplace=True), logit, inplace=True)
        return self._new(self.shape.hidden, tokens, shared, gate, inplace=True)

    def _expert_inner(self, width: int, source: Node, tokens: int, weight: int, chosen: Node) -> Node:
        """What the chosen experts make of a token before their last product."""
        if "ffn_gate_up_exps" in self.shape.roles:
            both = self._matmul(2 * width, source, tokens, weight, chosen)
            return self._new(width, tokens, self.graph.view(both), self.graph.view(both))
        up = self._matmul(width, source, tokens, weight, chosen)
        if "ffn_gate_exps" not in self.shape.roles:
            return self._new(width, tokens, up, inplace=True)
        return self._new(width, tokens, self._matmul(width, source, tokens, weight, chosen), up)


def _rotation(head: int, kind: str) -> int:
    """The side of a cache's matrix: for keys the largest power of two that divides the head."""
    side = 64
    while kind == "key_type" and head % (2 * side) == 0:
        side *= 2
    return side
