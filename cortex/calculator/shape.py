"""The shape of a model: what of it costs memory, layer by layer, whoever wrote its files."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """Bytes of one layer's weights, by how engines spread them.

    ``split`` divides under tensor parallelism, ``kv`` (K and V projections) down to one KV head per rank,
    ``copied`` (norms, router, compressed projections) does not divide, ``experts`` divides by experts too.
    ``largest`` is the largest single tensor among them.
    """

    split: int = 0
    kv: int = 0
    copied: int = 0
    experts: int = 0
    largest: int = 0

    @property
    def total(self) -> int:
        return self.split + self.kv + self.copied + self.experts


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer. Zero means "has none".

    ``key`` and ``value`` are the sizes cached per KV head and token: under MLA one head of the compressed rank plus
    the rotary part, and no V. ``window`` is in tokens; ``chunked`` windows start anew at each multiple. ``keyed``
    layers have no values but their keys. ``conv`` and ``state`` are recurrent values per sequence. ``indexer`` is
    the width of a sparse attention index, per token. ``draft`` layers predict further tokens and idle unless asked
    to.
    """

    heads: int = 0
    kv_heads: int = 0
    key: int = 0
    value: int = 0
    window: int = 0
    chunked: bool = False
    shared_kv: bool = False
    keyed: bool = False
    conv: int = 0
    state: int = 0
    indexer: int = 0
    ff: int = 0
    experts: int = 0
    experts_used: int = 0
    expert_ff: int = 0
    shared_ff: int = 0
    draft: bool = False
    weights: LayerWeights = LayerWeights()

    @property
    def cached_width(self) -> int:
        """Values cached per token, K and V together."""
        return 0 if self.shared_kv else self.kv_heads * (self.key + self.value)


@dataclass(frozen=True, slots=True)
class Mla:
    """Compressed attention: ``rank`` and ``rope`` are cached; heads are ``nope + rope`` and ``value`` wide."""

    rank: int
    rope: int
    nope: int
    value: int
    query_rank: int = 0


@dataclass(frozen=True, slots=True)
class Indexer:
    """A sparse attention's index: ``heads`` score tokens by keys ``key`` wide, and the ``top`` ones are looked at."""

    heads: int = 0
    key: int = 0
    top: int = 0


@dataclass(frozen=True, slots=True)
class Recurrence:
    """Sizes of state-space or ``linear`` attention layers, as ggml names them.

    ``normed`` says that what a state space selects is normed without weights.
    """

    inner: int = 0
    state: int = 0
    groups: int = 0
    heads: int = 0
    kernel: int = 0
    linear: bool = False
    normed: bool = False


@dataclass(frozen=True, slots=True)
class Shape:
    """A model, as far as memory is concerned. Sizes are bytes unless they count something.

    ``embedding`` is the token table, of ggml type ``embedding_type`` where a GGUF says so, ``input_bytes`` everything
    that is looked up before the first layer (that table included), ``output_bytes`` the head and final norms, without
    a tied copy. ``deepstack`` is how many of its first layers also take features of an image; ``latent`` is the
    width that experts work in where it is not the model's. ``tower_bytes`` are image
    and audio encoders within the same files. ``roles`` are the kinds of tensors its layers have, as GGUF names them;
    ``packed`` feed-forward blocks have their gate within the first product; ``normed_shares`` says that the shares of
    the experts chosen are brought to a sum of one; ``parallel`` layers run both their blocks at once. ``assumptions``
    say what was not proven by the files.
    """

    name: str
    family: str
    layers: tuple[Layer, ...]
    hidden: int
    vocab: int
    context: int
    embedding: int
    input_bytes: int
    output_bytes: int
    tied: bool = False
    embedding_type: str = ""
    causal: bool = True
    pooled: bool = False
    mla: Mla | None = None
    index: Indexer = Indexer()
    recurrence: Recurrence | None = None
    per_layer_input: int = 0
    deepstack: int = 0
    latent: int = 0
    tower_bytes: int = 0
    file_bytes: int = 0
    parameters: int = 0
    quantization: str = ""
    types: Mapping[str, int] = field(default_factory=dict)
    roles: frozenset[str] = frozenset()
    packed: bool = False
    normed_shares: bool = False
    parallel: bool = False
    assumptions: tuple[str, ...] = ()

    @property
    def trunk(self) -> tuple[Layer, ...]:
        """The layers that answer, without those that only draft."""
        return tuple(layer for layer in self.layers if not layer.draft)

    @property
    def weight_bytes(self) -> int:
        """All weights as the files hold them, towers and draft layers included, a tied table once."""
        layers = sum(layer.weights.total for layer in self.layers)
        return layers + self.input_bytes + self.output_bytes + self.tower_bytes

    @property
    def heads(self) -> int:
        return max((layer.heads for layer in self.layers), default=0)

    @property
    def recurrent(self) -> bool:
        return any(layer.state for layer in self.layers)

    @property
    def window(self) -> int:
        return max((layer.window for layer in self.layers), default=0)


WIDEST = 1 << 16


def why_impossible(shape: Shape) -> str | None:
    """Why these facts cannot be a model: a zero is never a size. None when they can."""
    if any(layer.kv_heads and not layer.key for layer in shape.layers):
        return "its attention heads have no size."
    if any(max(layer.heads, layer.kv_heads, layer.key, layer.value) > WIDEST for layer in shape.layers):
        return "its attention heads are more, or wider, than any model's."
    if not any(layer.kv_heads or layer.state or layer.conv for layer in shape.layers):
        return "no layer attends or remembers."
    if any(layer.experts and not layer.experts_used for layer in shape.layers):
        return "it uses none of its experts."
    if shape.mla is not None and min(shape.mla.nope, shape.mla.value) <= 0:
        return "its compressed heads have no size."
    if not shape.vocab:
        return "it has no vocabulary."
    return None
