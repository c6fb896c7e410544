"""How layers mix tokens: attention and compressed attention, or a state."""

from collections.abc import Mapping, Sequence

from cortex.calculator.ggml import row_bytes
from cortex.calculator.llamacpp.allocator import Node
from cortex.calculator.llamacpp.blocks import F16, F32
from cortex.calculator.llamacpp.places import HOST
from cortex.calculator.llamacpp.states import States
from cortex.calculator.llamacpp.turns import UNTURNED, is_turned
from cortex.calculator.shape import Layer, Mla

ATTENTION_BLOCK = 256  # tokens
GATED = frozenset({"qwen35", "qwen35moe", "qwen3next"})  # their queries bring a gate for the output
WHOLE_ROWS = frozenset({"olmo2", "olmoe", "minimax-m2"})
NORMED_VALUES = frozenset({"gemma3n", "gemma4"})
GATES: Mapping[str, bool] = {"afmoe": True, "step35": False}  # a product of their own: for each value or each head


class Mixers(States):
    """The token mixers of all families."""

    def _mix(self, layer: Layer, entry: Node, normed: Node) -> Node:
        shape = self.shape
        if layer.conv and shape.recurrence is not None:
            if not layer.kv_heads:
                return self._recurrent(layer, normed, shape.recurrence)
            attended = self._attention(layer, normed)
            mixed = self._recurrent(layer, self._norm(shape.hidden, entry), shape.recurrence)
            return self._new(shape.hidden, self.tokens, attended, mixed, inplace=True)
        if shape.mla is not None and layer.kv_heads:
            return self._compressed_attention(layer, normed, shape.mla)
        if layer.kv_heads:
            return self._attention(layer, normed)
        return self._feed_forward(layer, normed, self.tokens)

    def _attention(self, layer: Layer, normed: Node) -> Node:
        tokens = self.tokens
        parts, gate = self._projected(layer, normed)
        if "attn_q_norm" in self.shape.roles:
            parts[:2] = self._normed_heads(parts[:2])
        if self.shape.family in NORMED_VALUES:
            parts[2] = self._new(layer.kv_heads * layer.value, tokens, parts[2])
        turned = parts[:2]
        if is_turned(self.shape, layer, self.number):
            turned = [self._new(part.row, tokens, part, self.inputs.positions, inplace=True) for part in parts[:2]]
        elif self.shape.family == "llama4":
            turned[0] = self._new(layer.heads * layer.key, tokens, parts[0], inplace=True)
        parts = [*self._rotate(turned, "key_type", layer), *self._rotate(parts[2:], "value_type", layer)]
        stored_key, stored_value = (None, None) if layer.shared_kv else (parts[1], parts[2])
        heads = self._attend(layer, parts[0], stored_key, stored_value, None)
        heads.row = layer.heads * layer.value
        rotated = self._rotate([heads], "value_type", layer)[0]
        heads = heads if rotated is heads else self.graph.view(rotated)
        return self._matmul(self.shape.hidden, self._opened(layer, heads, normed, gate), 0, layer.weights.largest)

    def _projected(self, layer: Layer, normed: Node) -> tuple[list[Node], Node | None]:
        """Queries, keys and values, and the gate that some families' queries bring."""
        tokens, roles = self.tokens, self.shape.roles
        query, key, value = layer.heads * layer.key, layer.kv_heads * layer.key, layer.kv_heads * layer.value
        if "attn_qkv" in roles and "attn_q" not in roles:
            fused = self._matmul(query + key + value, normed)
            return [self._part(fused, width, query + key + value) for width in (query, key, value)], None
        gated = 2 if self.shape.family in GATED else 1
        whole = self._matmul(query * gated, normed)
        parts = [self.graph.view(whole, query * tokens * F32, row=query)]
        products = [self._matmul(key, normed)]
        products.append(products[0] if layer.keyed else self._matmul(value, normed))
        parts += [self.graph.view(product) for product in products]
        return parts, self._new(query, tokens, self.graph.view(whole)) if gated == 2 else None

    def _opened(self, layer: Layer, heads: Node, normed: Node, gate: Node | None) -> Node:
        """What attention saw, let through a gate where the family has one."""
        tokens, width = self.tokens, layer.heads * layer.value
        if gate is None and self.shape.family not in GATES:
            return heads
        whole = GATES.get(self.shape.family, True)
        source = gate or self._matmul(width if whole else layer.heads, normed)
        opened = self._new(width if whole else layer.heads, tokens, source, inplace=True)
        if whole:
            return self._new(width, tokens, heads, opened, inplace=True)
        return self.graph.view(self._new(width, tokens, heads, self.graph.view(opened)))

    def _normed_heads(self, parts: Sequence[Node]) -> list[Node]:
        """Normed queries and keys: some families norm all heads as one row, in place, and cut them afterwards."""
        if self.shape.family in WHOLE_ROWS:
            return [self.graph.view(self._norm(part.row, part.srcs[0])) for part in parts]
        return [self._norm(part.row, part) for part in parts]

    def _rotate(self, nodes: Sequence[Node], kind: str, layer: Layer) -> list[Node]:
        rotation = self.inputs.rotations.get((kind, layer.window > 0))
        if rotation is None:
            return list(nodes)
        return [self._new(node.row, self.tokens, rotation, self.graph.view(self._whole(node))) for node in nodes]

    def _whole(self, node: Node) -> Node:
        """A part of wider rows copied together."""
        return node if node.size == node.row * self.tokens * F32 else self._new(node.row, self.tokens, node)

    def _compressed_attention(self, layer: Layer, normed: Node, mla: Mla) -> Node:
        tokens, heads = self.tokens, layer.heads
        query = self._matmul(heads * (mla.nope + mla.rope), self._query_source(normed, mla))
        packed = self._matmul(mla.rank + mla.rope, normed)
        turned = self._turned(heads * mla.rope, self.graph.view(query, heads * mla.rope * tokens * F32))
        plain = self._matmul(heads * mla.rank, self.graph.view(query))
        joined = self._new(heads * (mla.rank + mla.rope), tokens, self.graph.view(plain), turned)
        key_turned = self._turned(mla.rope, self.graph.view(packed))
        compressed = self._norm(mla.rank, self.graph.view(packed, mla.rank * tokens * F32))
        key = self._new(mla.rank + mla.rope, tokens, self.graph.view(compressed), key_turned)
        attended = self._attend(layer, joined, key, None, mla)
        return self._matmul(self.shape.hidden, attended, 0, layer.weights.largest)

    def _query_source(self, normed: Node, mla: Mla) -> Node:
        """What queries are made of: compressed too, where the model does so."""
        if not mla.query_rank:
            return normed
        return self._norm(mla.query_rank, self._matmul(mla.query_rank, normed))

    def _turned(self, width: int, part: Node) -> Node:
        """The part of compressed heads that is turned by positions, in families that have them."""
        if self.shape.family in UNTURNED:
            return part
        return self._new(width, self.tokens, part, self.inputs.positions)

    def _attend(self, layer: Layer, query: Node, key: Node | None, value: Node | None, mla: Mla | None) -> Node:
        graph, options, tokens = self.graph, self.options, self.tokens
        in_order = (query, key, value) if self.windowed or not self.cached else (query, value, key)
        for node in filter(None, in_order):
            graph.expand(node)
        cells = self.cells[layer.window]
        if self.cached or key is None or value is None:
            keys, values = self._remembered(layer, key, value, cells, mla)
        else:
            keys, values = self._narrowed(key), self._narrowed(value)
        width = mla.rank if mla else layer.value
        mask = self._mask(layer.window)
        seen = graph.view(query)
        if options.flash:
            heads = self._new(layer.heads * width, tokens, seen, keys, values, mask)
            heads.row = 0
            self.flashes.append((heads, self.device))
        else:
            heads = self._plain_attention(layer, (seen, keys, values, mask), cells, width)
        if mla is not None:
            heads = self._matmul(layer.heads * mla.value, graph.view(heads))
        if mla is not None or not options.flash:
            heads = self._new(layer.heads * (mla.value if mla else width), tokens, graph.view(heads))
            if options.pinned and not options.flash and not options.cache_on_gpu:
                heads.backend = self.devices
        graph.expand(heads)
        return graph.view(heads) if options.flash else heads

    def _remembered(
        self, layer: Layer, key: Node | None, value: Node | None, cells: int, mla: Mla | None
    ) -> tuple[Node, Node]:
        """Writes the new keys and values into the cache and looks at all of it."""
        graph, options = self.graph, self.options
        where = self._cache_device(layer)
        key_cache, value_cache = graph.stored(where), graph.stored(where)
        if key is not None:
            graph.expand(graph.written(key_cache, graph.view(key), self.inputs.key_slots[layer.window]))
        if value is not None:
            graph.expand(graph.written(value_cache, graph.view(value), self.inputs.value_slots[layer.window]))
        keys = self._cached(key_cache, layer.kv_heads * layer.key, cells, options.key_type)
        if mla:
            values = self._cached(key_cache, layer.key, cells, options.key_type)
        else:
            values = self._cached_values(value_cache, layer, cells)
        return self._halved(keys, options.key_type), self._halved(values, options.value_type)

    def _halved(self, cached: Node, kind: str) -> Node:
        """Flash attention takes 32-bit caches as 16-bit copies."""
        if kind != "f32" or not self.options.flash:
            return cached
        return Node(cached.size // 2, (cached,))

    def _cache_device(self, layer: Layer) -> int:
        """Where the layer's cache lies: beside it, or beside the last layer of its kind that has one of its own."""
        if not self.options.cache_on_gpu:
            return self.devices
        if not layer.shared_kv:
            return self.device
        place = self.lending[0 if layer.window else 1]
        return self.devices if place == HOST else place

    def _narrowed(self, source: Node) -> Node:
        """Fresh keys or values as attention takes them: 16-bit for flash attention, else as they are."""
        view, tokens = self.graph.view(source), self.tokens
        if not self.options.flash:
            return view
        if self.options.mixed_inputs:  # these builds fill up the last block
            tokens = -(-tokens // ATTENTION_BLOCK) * ATTENTION_BLOCK
            view = self.graph.view(self._new(source.row, tokens, view))
        return Node(source.row * tokens * F16, (view,))

    def _mask(self, window: int) -> Node:
        mask = self.inputs.masks[window]
        if not self.options.wide_mask or not self.options.flash:
            return mask
        key = (window, self.device)
        if key not in self.inputs.narrowed:
            self.inputs.narrowed[key] = Node(mask.size // 2, (mask,))
        return self.inputs.narrowed[key]

    def _plain_attention(self, layer: Layer, nodes: tuple[Node, Node, Node, Node], cells: int, width: int) -> Node:
        query, keys, values, mask = nodes
        scores = self._new(cells * layer.heads, self.tokens, keys, query)
        weights = self._new(cells * layer.heads, self.tokens, scores, mask, inplace=True)
        if values.root is keys.root:  # compressed attention: V is a part of K and has to be turned first
            turned = Node(row_bytes(self.options.key_type, width * cells) * self.streams, (values,))
            return self._new(layer.heads * width, self.tokens, turned, weights)
        if not self.cached:
            values = self._new(layer.kv_heads * width, self.tokens, values)
        return self._new(layer.heads * width, self.tokens, values, weights)

    def _cached(self, cache: Node, width: int, cells: int, type_name: str) -> Node:
        return self.graph.view(cache, row_bytes(type_name, width) * cells * self.streams)

    def _cached_values(self, cache: Node, layer: Layer, cells: int) -> Node:
        """Values of one layer; without flash attention each stream has the room of the widest layer."""
        own, kind = layer.kv_heads * layer.value, self.options.value_type
        room = own if self.options.flash else max(each.kv_heads * each.value for each in self.shape.layers)
        size = row_bytes(kind, room) * cells * (self.streams - 1) + row_bytes(kind, own) * cells
        return self.graph.view(cache, size)
