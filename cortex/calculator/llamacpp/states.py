"""Layers that remember in a state: short convolutions, state spaces and gated linear attention."""

from cortex.calculator.llamacpp.allocator import Node
from cortex.calculator.llamacpp.blocks import F32, Blocks
from cortex.calculator.shape import Layer, Recurrence

REPEATING = "qwen3next"  # gives each head of values queries and keys of its own


class States(Blocks):
    """The recurrent mixers of all families."""

    @property
    def sequences(self) -> int:
        """How many sequences' states one graph works on; those of the others move along."""
        return self.options.slots

    def _recurrent(self, layer: Layer, normed: Node, facts: Recurrence) -> Node:
        if "ssm_f_a" in self.shape.roles:
            return self._delta_attention(layer, normed, facts)
        if "attn_gate" in self.shape.roles or "ssm_alpha" in self.shape.roles or "ssm_ba" in self.shape.roles:
            return self._delta_net(layer, normed, facts)
        if "shortconv" in self.shape.roles:
            return self._short_convolution(layer, normed, facts)
        if "ssm_x" in self.shape.roles:
            return self._selective_scan(layer, normed, facts)
        return self._state_space(layer, normed, facts)

    def _states(self, values: int) -> Node:
        """The recurrent states of all sequences: one is cleared, then all are read, then those of others copied."""
        self._clear_states()
        rows = self._new(values, self.sequences, self._state_store(), self.inputs.states)
        self.graph.expand(rows)
        self._keep_others(values, self.options.slots - self.sequences)
        return rows

    def _clear_states(self) -> None:
        self.graph.expand(self.graph.written(self._state_store()))

    def _keep_others(self, values: int, most: int = 0) -> None:
        """States of sequences that are not in this batch move along: ``most`` in the largest one."""
        others = Node(values * most * F32, (self._state_store(values), self.inputs.other_states))
        self.graph.expand(self.graph.written(self._state_store(), others))

    def _state_store(self, values: int = 0) -> Node:
        """The layer's states; with ``values`` per sequence, they are copied where a step runs on another device."""
        size = values * self.options.slots * F32
        return self.graph.stored(self.device if self.options.cache_on_gpu else self.devices, size)

    def _convolution(self, layer: Layer, mixed: Node, width: int, facts: Recurrence) -> Node:
        """The short convolution over the last tokens, whose tail is written back."""
        return self._convolved(self._states(layer.conv), mixed, width, facts)

    def _convolved(self, states: Node, mixed: Node, width: int, facts: Recurrence) -> Node:
        graph, slots = self.graph, self.options.slots
        joined = Node(((facts.kernel - 1) * slots + self.tokens) * width * F32, (graph.view(states), graph.view(mixed)))
        tail = graph.view(joined, joined.size - self.tokens // slots * F32)  # the end of each row
        graph.expand(graph.written(self._state_store(), tail))
        convolved = self._new(width, self.tokens, joined, backend=self.device)
        return self._new(width, self.tokens, convolved, inplace=True)

    def _short_convolution(self, layer: Layer, normed: Node, facts: Recurrence) -> Node:
        """Two gates around a convolution over the last few tokens, without a state besides."""
        graph, hidden, tokens = self.graph, self.shape.hidden, self.tokens
        packed = self._matmul(3 * hidden, graph.view(normed))
        gated = self._new(hidden, tokens, graph.view(packed), graph.view(packed))
        mixed = self._convolution(layer, gated, hidden, facts)
        opened = self._new(hidden, tokens, graph.view(packed), mixed, inplace=True)
        return graph.view(self._matmul(hidden, opened))

    def _selective_scan(self, layer: Layer, normed: Node, facts: Recurrence) -> Node:
        """The state space of the first Mamba: what it keeps and forgets follows from the convolved tokens."""
        graph, tokens, slots = self.graph, self.tokens, self.options.slots
        packed = self._matmul(2 * facts.inner, graph.view(normed))
        mixed = self._convolution(layer, packed, facts.inner, facts)
        chosen = self._matmul(facts.heads + 2 * facts.state, mixed)
        widths = (facts.heads, facts.state, facts.state)
        if "ssm_dt_norm" in self.shape.roles:
            parts = [self._norm(width, graph.view(chosen)) for width in widths]
        elif facts.normed:
            parts = [self._new(width, tokens, graph.view(chosen)) for width in widths]
        else:
            parts = [self._new(facts.heads, tokens, graph.view(chosen)), graph.view(chosen), graph.view(chosen)]
        steps = self._new(facts.inner, tokens, self._matmul(facts.inner, parts[0]), inplace=True)
        scan = Node(
            (facts.inner * tokens + layer.state * slots) * F32,
            (self._state_store(layer.state), graph.view(mixed), steps, *parts[1:], self.inputs.states),
        )
        self._scanned(layer, scan)
        skipped = self._new(facts.inner, tokens, mixed, inplace=True, backend=self.device)
        summed = self._new(facts.inner, tokens, graph.view(scan), skipped, inplace=True)
        gate = self._new(facts.inner, tokens, self._part(packed, facts.inner, 2 * facts.inner))
        gated = self._new(facts.inner, tokens, gate, summed)
        return graph.view(self._matmul(self.shape.hidden, gated))

    def _scanned(self, layer: Layer, scan: Node) -> None:
        """Runs the scan over the states and writes the last ones back."""
        graph = self.graph
        scan.backend = self.device
        self._clear_states()
        graph.expand(scan)
        self._keep_others(layer.state, self.options.slots - 1 if self.options.mixed_inputs else 0)
        kept = graph.view(scan, layer.state * self.options.slots * F32)
        graph.expand(graph.written(self._state_store(), kept))

    def _state_space(self, layer: Layer, normed: Node, facts: Recurrence) -> Node:
        graph, tokens, slots = self.graph, self.tokens, self.options.slots
        width = facts.inner + 2 * facts.groups * facts.state
        packed = self._matmul(facts.inner + width + facts.heads, normed)
        mixed = self._convolution(layer, packed, width, facts)
        apart = self._new(facts.heads, tokens, graph.view(packed))
        steps = self._new(facts.heads, tokens, apart, inplace=True, backend=self.device)
        scan = Node(
            (facts.inner * tokens + layer.state * slots) * F32,
            (self._state_store(layer.state), graph.view(mixed), steps, graph.view(mixed), self.inputs.states),
        )
        self._scanned(layer, scan)
        skipped = self._new(facts.inner, tokens, graph.view(mixed), backend=self.device)
        summed = self._new(facts.inner, tokens, graph.view(scan), skipped, inplace=True)
        gated = self._new(facts.inner, tokens, self._new(facts.inner, tokens, graph.view(packed)), summed)
        if "ssm_norm" in self.shape.roles:
            gated = self._norm(facts.inner, graph.view(gated))
        return self._matmul(self.shape.hidden, graph.view(gated))

    def _delta_net(self, layer: Layer, normed: Node, facts: Recurrence) -> Node:
        graph, tokens, slots = self.graph, self.tokens, self.options.slots
        keys = facts.groups * facts.state
        width = facts.inner + 2 * keys
        graph.expand(normed)
        packed, gate = self._matmul(width, normed), self._matmul(facts.inner, normed)
        alpha, beta = (self._new(facts.heads, tokens, graph.view(self._matmul(facts.heads, normed))) for _ in range(2))
        mixed = self._convolution(layer, packed, width, facts)
        state = self._states(layer.state)
        query, key = (self._repeated(self._new(keys, tokens, graph.view(mixed)), facts) for _ in range(2))
        result = Node((facts.inner * tokens + layer.state * slots) * F32,
                      (query, key, graph.view(mixed), alpha, beta, graph.view(state)))  # fmt: skip
        graph.expand(graph.written(self._state_store(), graph.view(result, layer.state * slots * F32)))
        normal = self._norm(facts.inner, graph.view(result))
        opened = self._new(facts.inner, tokens, graph.view(gate), inplace=True)
        product = self._new(facts.inner, tokens, normal, opened, inplace=True)
        return graph.view(self._matmul(self.shape.hidden, graph.view(product)))

    def _repeated(self, heads: Node, facts: Recurrence) -> Node:
        """Queries or keys, once for each head of values where the family does so."""
        if self.shape.family != REPEATING or facts.groups == facts.heads:
            return heads
        return self.graph.view(self._new(facts.heads * facts.state, self.tokens, self.graph.view(heads)))

    def _delta_attention(self, layer: Layer, normed: Node, facts: Recurrence) -> Node:
        """Kimi's linear attention: each of Q, K and V is convolved, and each channel forgets at its own pace."""
        graph, tokens, slots, inner = self.graph, self.tokens, self.options.slots, facts.inner
        graph.expand(normed)
        states = self._states(layer.conv)
        query, key, value = (self._convolved(states, self._matmul(inner, normed), inner, facts) for _ in range(3))
        pace = self._matmul(inner, self._matmul(facts.state, normed))
        pace = self._new(inner, tokens, graph.view(pace))
        beta = self._new(facts.heads, tokens, graph.view(self._matmul(facts.heads, normed)))
        state = self._states(layer.state)
        turned = (self._new(inner, tokens, graph.view(query)), self._new(inner, tokens, graph.view(key)))
        result = Node((inner * tokens + layer.state * slots) * F32,
                      (*turned, graph.view(value), pace, beta, graph.view(state)))  # fmt: skip
        graph.expand(graph.written(self._state_store(), graph.view(result, layer.state * slots * F32)))
        normal = self._norm(inner, graph.view(self._new(inner, tokens, graph.view(result))))
        gate = self._matmul(inner, self._matmul(facts.state, normed))
        opened = self._new(inner, tokens, normal, self._new(inner, tokens, graph.view(gate)), inplace=True)
        return self._matmul(self.shape.hidden, self._new(inner, tokens, opened))
