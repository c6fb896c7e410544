"""A graph of ggml operations reduced to what its buffers need: sizes, lifetimes and where each runs.

Follows ggml's own scheduler and allocator (ggml-backend.cpp, ggml-alloc.c), so that a compute buffer
is planned here as llama.cpp plans it, without llama.cpp.
"""

ALIGNMENT = 128


class Node:
    """A tensor: the result of an operation, a view of another, an input, or something allocated elsewhere.

    ``row`` and the size stand for the layout: equal ones may share memory. ``at`` is -1 while it has no memory.
    """

    __slots__ = ("at", "backend", "bare", "children", "inplace", "is_input", "is_view", "kept", "root", "row", "seen",
                 "size", "srcs", "views", "weight")  # fmt: skip

    def __init__(
        self, size: int, srcs: tuple["Node", ...] = (), inplace: bool = False, row: int = 0, backend: int = -1
    ) -> None:
        self.size = size
        self.srcs = srcs
        self.inplace = inplace
        self.row = row
        self.backend = backend
        self.root: Node | None = None
        self.is_view = self.is_input = self.kept = self.weight = self.seen = self.bare = False
        self.children = self.views = 0
        self.at = -1


class Graph:
    """Operations in the order llama.cpp would run them. Backends are devices by number; the last is the host."""

    def __init__(self, backends: int) -> None:
        self.backends = backends
        self.nodes: list[Node] = []
        self.inputs: list[Node] = []
        self.lends = False

    def input(self, size: int) -> Node:
        """Data from outside, one buffer on the host."""
        node = Node(size, backend=self.backends - 1)
        node.is_input = True
        return node

    def stored(self, backend: int, size: int = 0, *, weight: bool = False) -> Node:
        """A tensor that lives elsewhere; ``size`` is what a copy of it would take on another device."""
        node = Node(size, backend=backend)
        node.weight, node.seen, node.bare = weight, True, not size
        self.lends = self.lends or weight
        return node

    def view(self, source: Node, size: int | None = None, *, row: int = 0) -> Node:
        """A look at ``source`` (view, reshape, permute), which moves nothing."""
        node = Node(source.size if size is None else size, (source,), False, row or source.row)
        node.root = source if source.root is None else source.root
        node.is_view = True
        return node

    def written(self, target: Node, *srcs: Node) -> Node:
        """A write into ``target``, which lives elsewhere (a cache)."""
        node = Node(0, srcs)
        node.root = target
        return node

    def expand(self, node: Node) -> Node:
        """Appends the operation and, before it, all it needs that is not there yet."""
        if node.seen:
            return node
        node.seen = True
        for source in node.srcs:
            if not source.seen:
                self.expand(source)
        if node.is_input:
            self.inputs.append(node)
        else:
            self.nodes.append(node)
        return node


def compute_buffers(graph: Graph, copies: int = 1) -> list[int]:
    """Bytes of each backend's compute buffer. ``copies`` is 4 when a pipeline runs over several GPUs, else 1."""
    _assign(graph)
    for node in graph.inputs if copies > 1 else ():
        node.size, node.kept = _stepped(node.size, copies), True
    return _allocate(graph, _split(graph, copies))


def _stepped(size: int, copies: int) -> int:
    """Room for an input of each step of a pipeline, none of which is ever freed."""
    return -(-size // ALIGNMENT) * ALIGNMENT * copies


def _assign(graph: Graph) -> None:
    """Chooses a backend for every operation: ggml_backend_sched_split_graph, passes 1, 2 and 4."""
    host = graph.backends - 1
    for node in graph.nodes:
        if node.backend < 0 and node.root is not None and not node.is_view:
            node.backend = node.root.backend
    ops = [node for node in graph.nodes if not node.is_view]
    for order, skipped in ((ops, host), (ops[::-1], host), (ops, -1), (ops[::-1], -1)):
        if not _spread(order, skipped):
            break
    for node in graph.nodes:
        if node.is_view and node.root is not None:
            node.backend = node.root.backend


def _spread(ops: list[Node], skipped: int) -> int:
    """How many are left without a backend when each took that of the one before, the skipped one's excepted."""
    current, left = -1, 0
    for node in ops:
        if node.backend < 0:
            node.backend = current
            left += current < 0
        else:
            current = -1 if node.backend == skipped else node.backend
    return left


def _split(graph: Graph, copies: int) -> list[Node]:
    """Cuts the graph where the backend changes and puts the copies of foreign inputs in front of each piece."""
    result: list[Node] = []
    made: dict[tuple[Node, int], Node] = {}
    piece: list[Node] = []
    fresh: list[tuple[Node, Node]] = []
    current = -1
    for node in graph.nodes:
        if not node.is_view:
            backend = node.backend
            if backend != current or (graph.lends and fresh and _brings_weight(node)):
                _close(result, piece, fresh)
                current = backend
            for source in node.srcs:
                if source.backend != backend and not source.bare:
                    _bring(graph, node, made, fresh, copies)
                    break
        piece.append(node)
    _close(result, piece, fresh)
    return result


def _bring(
    graph: Graph, node: Node, made: dict[tuple[Node, int], Node], fresh: list[tuple[Node, Node]], copies: int
) -> None:
    """Replaces inputs that live on other backends by copies, each made once."""
    found = []
    for source in node.srcs:
        if source.backend != node.backend and not source.bare:
            key = (source, node.backend)
            if key not in made:
                made[key] = _copy_of(graph, source, node.backend, copies)
                fresh.append((source, made[key]))
            source = made[key]
        found.append(source)
    node.srcs = tuple(found)


def _close(result: list[Node], piece: list[Node], fresh: list[tuple[Node, Node]]) -> None:
    for source, copy in fresh:
        keeper = Node(0, (source,), backend=source.backend)
        keeper.is_view = True
        result.extend((keeper, copy))
    result.extend(piece)
    piece.clear()
    fresh.clear()


def _brings_weight(node: Node) -> bool:
    return any(source.weight and source.backend != node.backend for source in node.srcs)


def _copy_of(graph: Graph, source: Node, backend: int, copies: int) -> Node:
    copy = Node(source.size, row=source.row, backend=backend)
    if copies > 1:
        copy.kept = True
        copy.size = source.size if source.is_input else _stepped(source.size, copies)
        graph.inputs.append(copy)  # allocated first
    return copy


def _allocate(graph: Graph, nodes: list[Node]) -> list[int]:
    """Peak bytes per backend: ggml_gallocr_alloc_graph_impl."""
    pools = [Pool() for _ in range(graph.backends)]
    for node in graph.inputs:
        node.at = pools[node.backend].take(node.size)
    _count_uses(nodes)
    for node in nodes:
        if node.at < 0 and not node.is_view and node.root is None and not (node.inplace and _takes_over(node)):
            node.at = pools[node.backend].take(node.size)
        for source in node.srcs:
            source.children -= 1
            if not (source.children or source.views):
                _release(source, pools)
    return [pool.peak for pool in pools]


def _count_uses(nodes: list[Node]) -> None:
    for node in nodes:
        if node.is_view and node.root is not None:
            node.root.views += 1
        for source in node.srcs:
            source.children += 1


def _takes_over(node: Node) -> bool:
    """Whether it takes the memory, wherever that is, of the first of its sources that is used by nobody else."""
    for parent in node.srcs:
        if (
            parent.children == 1
            and parent.at >= 0
            and parent.size == node.size
            and parent.row == node.row
            and not (parent.kept or parent.is_view or parent.views)
        ):
            node.at, node.backend, parent.at = parent.at, parent.backend, -1
            return True
    return False


def _release(node: Node, pools: list["Pool"]) -> None:
    if node.is_view:
        root = node.root
        if root is None:
            return
        root.views -= 1
        if root.views or root.children:
            return
        node = root
    if node.at >= 0 and not node.kept:
        pools[node.backend].give(node.at, node.size)
        node.at = -1


class Pool:
    """Best-fit allocation in one growing buffer: ggml_dyn_tallocr."""

    def __init__(self) -> None:
        self.free: list[list[int]] = [[0, 1 << 62]]
        self.peak = 0

    def take(self, size: int) -> int:
        size = -(-size // ALIGNMENT) * ALIGNMENT
        best, best_size = -1, 1 << 63
        for index in range(len(self.free) - 1):
            length = self.free[index][1]
            if size <= length <= best_size:
                best, best_size = index, length
        block = self.free[best]
        at = block[0]
        block[0] += size
        block[1] -= size
        if not block[1]:
            del self.free[best]
        if at + size > self.peak:
            self.peak = at + size
        return at

    def give(self, at: int, size: int) -> None:
        """Takes memory back, merging as ggml does: a block of no bytes in between keeps its neighbours apart."""
        size = -(-size // ALIGNMENT) * ALIGNMENT
        free = self.free
        for index, block in enumerate(free):
            if block[0] + block[1] == at:
                block[1] += size
                if index + 1 < len(free) and at + size == free[index + 1][0]:
                    block[1] += free.pop(index + 1)[1]
                return
            if at + size == block[0]:
                block[0], block[1] = at, block[1] + size
                if index and free[index - 1][0] + free[index - 1][1] == at:
                    free[index - 1][1] += free.pop(index)[1]
                return
        free.insert(next((index for index, block in enumerate(free) if block[0] >= at), len(free)), [at, size])
