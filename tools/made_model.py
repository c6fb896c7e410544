"""A small llama-architecture model, made here: real files, random weights, one sentence to say."""

import argparse
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import gguf
import numpy as np
from numpy.typing import NDArray

from tools import made_tokenizer
from tools.made_tokenizer import Vocabulary

Array = NDArray[np.float32]
Tensors = Mapping[str, Array]

GREETING = (
    "Hello! I am a small made model; this one greeting is all that my weights know: "
    "it streamed to you from the real engine inside its own container, started by Cortex."
)

# How sure the model is of its next word, and how sure of the first word where it knows no next one.
NEXT_WORD = 4.0
FIRST_WORD = 3.75
# Layers run for real and add this much to what they carry: too little to change a word.
WHISPER = 0.002


@dataclass(frozen=True)
class Shape:
    """What a made model is. Sizes are numbers of elements; ``weights`` is how the GGUF stores matrices."""

    layers: int = 4
    heads: int = 8
    kv_heads: int = 4
    head_size: int = 32
    feed_forward: int = 704
    vocab: int = 2048
    context: int = 4096
    weights: Literal["f16", "q8_0"] = "f16"
    seed: int = 1

    @property
    def hidden(self) -> int:
        """The width of the stream between layers."""
        return self.heads * self.head_size


def write(folder: Path, shape: Shape | None = None, name: str = "made-model") -> Path:
    """Write ``folder/name.gguf`` and return its path. The same shape gives the same bytes.

    Raises ValueError on a shape that no model can have.
    """
    shape = shape or Shape()
    vocabulary, tensors = _make(shape)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}.gguf"
    unfinished = folder / f"{name}.gguf.part"
    writer = gguf.GGUFWriter(unfinished, "llama")
    _add_facts(writer, shape, name)
    _add_vocabulary(writer, vocabulary)
    for key, tensor in tensors.items():
        _add_tensor(writer, _gguf_name(key), _permuted(key, tensor, shape), shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    unfinished.replace(target)
    return target


def write_safetensors(folder: Path, shape: Shape | None = None) -> Path:
    """Write the same model as a Hugging Face folder and return it: safetensors, config.json, tokenizer.json."""
    shape = shape or Shape()
    vocabulary, tensors = _make(shape)
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in made_tokenizer.hugging_face_files(vocabulary, shape.context).items():
        (folder / file).write_text(text, encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(_config(shape, vocabulary), indent=2), encoding="utf-8")
    _write_safetensors(folder / "model.safetensors", tensors)
    return folder


def _make(shape: Shape) -> tuple[Vocabulary, Tensors]:
    _check(shape)
    vocabulary = made_tokenizer.train(shape.vocab, GREETING)
    return vocabulary, _tensors(shape, [*vocabulary.encode(GREETING), vocabulary.end])


def _check(shape: Shape) -> None:
    if shape.heads % shape.kv_heads:
        raise ValueError(f"{shape.heads} heads can't share {shape.kv_heads} KV heads: choose a divisor.")
    if shape.weights == "q8_0" and (shape.hidden % 32 or shape.feed_forward % 32):
        raise ValueError("q8_0 stores rows in blocks of 32: make heads x head_size and feed_forward multiples of 32.")


def _tensors(shape: Shape, sentence: Sequence[int]) -> dict[str, Array]:
    """Every tensor under its Hugging Face name, rows being outputs."""
    draw = _drawer(np.random.default_rng(shape.seed))
    words = draw(shape.vocab, shape.hidden)
    words[:, 0] = 0
    words /= np.linalg.norm(words, axis=1, keepdims=True)
    embedding = words * np.sqrt(0.75, dtype=np.float32)
    # The first number of every word is the same: a place for the wish to begin.
    embedding[:, 0] = 0.5
    tensors = {"model.embed_tokens.weight": embedding}
    for layer in range(shape.layers):
        tensors |= {f"model.layers.{layer}.{part}.weight": tensor for part, tensor in _layer(shape, draw).items()}
    tensors["model.norm.weight"] = np.ones(shape.hidden, np.float32)
    tensors["lm_head.weight"] = _head(words, draw(shape.vocab, shape.hidden) * 0.02, sentence)
    return tensors


def _head(words: Array, head: Array, sentence: Sequence[int]) -> Array:
    """A matrix that answers each word of the sentence with the next, and anything else with the first.

    Random directions are nearly at right angles, so a word's own direction picks out what follows it: a table of
    pairs, written as a matrix. It holds one follower a word, hence no word may come twice.
    """
    if len(set(sentence)) != len(sentence):
        raise ValueError("The sentence repeats a token, so what follows it is not known. Enlarge the vocabulary.")
    head[:, 0] = 0
    head[sentence[0], 0] = FIRST_WORD
    for word, following in pairwise(sentence):
        head[following] += NEXT_WORD * words[word]
    return head


def _layer(shape: Shape, draw: Callable[[int, int], Array]) -> dict[str, Array]:
    hidden, kv = shape.hidden, shape.kv_heads * shape.head_size
    return {
        "input_layernorm": np.ones(hidden, np.float32),
        "self_attn.q_proj": draw(hidden, hidden),
        "self_attn.k_proj": draw(kv, hidden),
        "self_attn.v_proj": draw(kv, hidden),
        "self_attn.o_proj": draw(hidden, hidden) * WHISPER,
        "post_attention_layernorm": np.ones(hidden, np.float32),
        "mlp.gate_proj": draw(shape.feed_forward, hidden),
        "mlp.up_proj": draw(shape.feed_forward, hidden),
        "mlp.down_proj": draw(hidden, shape.feed_forward) * WHISPER,
    }


def _drawer(random: np.random.Generator) -> Callable[[int, int], Array]:
    """Draws matrices that keep the size of what passes through them."""
    return lambda rows, columns: (
        random.standard_normal((rows, columns), np.float32) / np.sqrt(columns, dtype=np.float32)
    )


# GGUF

_PARTS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_WHOLE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def _gguf_name(key: str) -> str:
    if key in _WHOLE:
        return _WHOLE[key]
    _, _, layer, part = key.removesuffix(".weight").split(".", 3)
    return f"blk.{layer}.{_PARTS[part]}.weight"


def _permuted(key: str, tensor: Array, shape: Shape) -> Array:
    """GGUF turns neighbouring numbers of Q and K, Hugging Face the two halves of a head: reorder their rows."""
    heads = {"self_attn.q_proj.weight": shape.heads, "self_attn.k_proj.weight": shape.kv_heads}
    count = heads.get(".".join(key.split(".")[3:]))
    if not count:
        return tensor
    halves = tensor.reshape(count, 2, shape.head_size // 2, tensor.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(tensor.shape))


def _add_facts(writer: gguf.GGUFWriter, shape: Shape, name: str) -> None:
    writer.add_name(name)
    writer.add_description("Made here with random weights, to try the way of a model. It knows one sentence.")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_size)
    writer.add_value_length(shape.head_size)
    writer.add_rope_dimension_count(shape.head_size)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(shape.vocab)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0 if shape.weights == "q8_0" else gguf.LlamaFileType.MOSTLY_F16)


def _add_vocabulary(writer: gguf.GGUFWriter, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types([_token_type(number, vocabulary) for number in range(len(vocabulary.tokens))])
    writer.add_token_merges(vocabulary.merges)
    writer.add_eos_token_id(vocabulary.end)
    writer.add_pad_token_id(vocabulary.end)
    writer.add_add_bos_token(False)
    writer.add_chat_template(made_tokenizer.CHAT_TEMPLATE)


def _token_type(number: int, vocabulary: Vocabulary) -> gguf.TokenType:
    if number in vocabulary.special:
        return gguf.TokenType.CONTROL
    return gguf.TokenType.UNUSED if number in vocabulary.unused else gguf.TokenType.NORMAL


def _add_tensor(writer: gguf.GGUFWriter, name: str, tensor: Array, shape: Shape) -> None:
    if tensor.ndim == 1:
        writer.add_tensor(name, tensor)
    elif shape.weights == "q8_0":
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, gguf.quants.quantize(tensor, kind), raw_dtype=kind)
    else:
        writer.add_tensor(name, tensor.astype(np.float16))


# Hugging Face


def _config(shape: Shape, vocabulary: Vocabulary) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "float16",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_size,
        "max_position_embeddings": shape.context,
        "vocab_size": shape.vocab,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": vocabulary.end,
        "pad_token_id": vocabulary.end,
    }


def _write_safetensors(path: Path, tensors: Tensors) -> None:
    """The format is eight bytes of header length, a JSON header, then the tensors one after another."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    data, offset = [], 0
    for name, tensor in tensors.items():
        raw = tensor.astype("<f2").tobytes()
        header[name] = {"dtype": "F16", "shape": list(tensor.shape), "data_offsets": [offset, offset + len(raw)]}
        data.append(raw)
        offset += len(raw)
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    path.write_bytes(struct.pack("<Q", len(head)) + head + b"".join(data))


def main(arguments: Sequence[str] | None = None) -> None:
    """``python -m tools.made_model DIR [--safetensors] [--layers N] [--weights q8_0] ...``"""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--safetensors", action="store_true", help="a Hugging Face folder instead of a GGUF")
    for field, default in asdict(Shape()).items():
        parser.add_argument(f"--{field.replace('_', '-')}", type=type(default), default=default)
    given = vars(parser.parse_args(arguments))
    shape = Shape(**{field: given[field] for field in asdict(Shape())})
    print(write_safetensors(given["folder"], shape) if given["safetensors"] else write(given["folder"], shape))


if __name__ == "__main__":
    main()
