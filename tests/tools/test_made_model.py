import json
import struct
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest

from tools import made_model, made_tokenizer
from tools.made_model import GREETING, Shape

SMALL = Shape(layers=2, heads=4, kv_heads=2, head_size=32, feed_forward=64, vocab=1024, context=256)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_model.write(tmp_path_factory.mktemp("made"), SMALL)


def field(path: Path, key: str) -> object:
    return gguf.GGUFReader(path).fields[key].contents()


def test_the_header_tells_the_shape(small: Path) -> None:
    assert field(small, "general.architecture") == "llama"
    assert field(small, "llama.block_count") == 2
    assert field(small, "llama.attention.head_count_kv") == 2
    assert field(small, "llama.context_length") == 256
    assert len(field(small, "tokenizer.ggml.tokens")) == 1024  # type: ignore[arg-type]


def test_every_tensor_of_a_llama_is_there(small: Path) -> None:
    names = {tensor.name for tensor in gguf.GGUFReader(small).tensors}
    assert {"token_embd.weight", "output_norm.weight", "output.weight"} < names
    assert len(names) == 3 + 9 * SMALL.layers


def test_the_same_shape_gives_the_same_bytes_in_another_process(small: Path, tmp_path: Path) -> None:
    words = ["--layers", "2", "--heads", "4", "--kv-heads", "2", "--feed-forward", "64", "--vocab", "1024"]
    command = [sys.executable, "-m", "tools.made_model", str(tmp_path), *words, "--context", "256"]
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "made-model.gguf").read_bytes() == small.read_bytes()


def test_another_seed_gives_another_model(small: Path, tmp_path: Path) -> None:
    other = made_model.write(tmp_path, Shape(**{**vars(SMALL), "seed": 2}))
    assert other.read_bytes() != small.read_bytes()


def test_q8_0_weighs_about_half_of_f16(small: Path, tmp_path: Path) -> None:
    packed = made_model.write(tmp_path, Shape(**{**vars(SMALL), "weights": "q8_0"}))
    assert packed.stat().st_size < 0.65 * small.stat().st_size
    assert {t.tensor_type.name for t in gguf.GGUFReader(packed).tensors} == {"F32", "Q8_0"}


def test_nothing_unfinished_is_left_beside_it(small: Path) -> None:
    assert [path.name for path in small.parent.iterdir()] == ["made-model.gguf"]


def test_each_word_of_the_greeting_leads_to_the_next() -> None:
    vocabulary, tensors = made_model._make(SMALL)
    sentence = [*vocabulary.encode(GREETING), vocabulary.end]
    logits = tensors["model.embed_tokens.weight"] @ tensors["lm_head.weight"].T
    assert [int(logits[word].argmax()) for word in sentence[:-1]] == sentence[1:]


def test_any_other_word_leads_to_the_beginning() -> None:
    vocabulary, tensors = made_model._make(SMALL)
    sentence = vocabulary.encode(GREETING)
    logits = tensors["model.embed_tokens.weight"] @ tensors["lm_head.weight"].T
    others = [word for word in range(SMALL.vocab) if word not in sentence]
    assert {int(logits[word].argmax()) for word in others} == {sentence[0]}


def test_a_sentence_that_repeats_a_word_is_refused() -> None:
    words = np.eye(4, dtype=np.float32)
    with pytest.raises(ValueError, match="repeats a token"):
        made_model._head(words, words.copy(), [1, 2, 1])


def test_a_word_of_the_greeting_is_one_token() -> None:
    vocabulary = made_tokenizer.train(2048, GREETING)
    assert "Ġcontainer" in vocabulary.tokens
    assert vocabulary.tokenizer.decode(vocabulary.encode(GREETING)) == GREETING


def test_a_corpus_that_gives_too_few_tokens_is_filled_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made_tokenizer, "corpus", list)
    vocabulary = made_tokenizer.train(1024, GREETING)
    assert len(vocabulary.tokens) == 1024
    assert vocabulary.tokens[-1].startswith("<|unused_")


def test_a_vocabulary_smaller_than_the_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="too small"):
        made_tokenizer.train(100, GREETING)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (Shape(heads=8, kv_heads=3), "can't share 3 KV heads"),
        (Shape(feed_forward=100, weights="q8_0"), "multiples of 32"),
    ],
)
def test_a_shape_no_model_can_have_is_refused(tmp_path: Path, shape: Shape, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made_model.write(tmp_path, shape)
    assert not list(tmp_path.iterdir())


def test_the_rows_of_a_head_are_paired_as_llama_cpp_turns_them() -> None:
    rows = np.arange(8, dtype=np.float32)[:, None]
    shape = Shape(heads=2, kv_heads=2, head_size=4)
    turned = made_model._permuted("model.layers.0.self_attn.q_proj.weight", rows, shape)
    assert turned[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_the_safetensors_folder_holds_the_same_weights(small: Path, tmp_path: Path) -> None:
    folder = made_model.write_safetensors(tmp_path, SMALL)
    raw = (folder / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    header.pop("__metadata__")
    assert max(entry["data_offsets"][1] for entry in header.values()) == len(raw) - 8 - length
    start, end = header["lm_head.weight"]["data_offsets"]
    (output,) = (t for t in gguf.GGUFReader(small).tensors if t.name == "output.weight")
    assert raw[8 + length + start : 8 + length + end] == output.data.tobytes()


def test_the_hugging_face_files_agree_with_each_other(tmp_path: Path) -> None:
    folder = made_model.write_safetensors(tmp_path, SMALL)
    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    ends = {token["id"] for token in tokenizer["added_tokens"] if token["content"] == made_tokenizer.END}
    assert ends == {config["eos_token_id"]}
    assert json.loads((folder / "tokenizer_config.json").read_text())["chat_template"] == made_tokenizer.CHAT_TEMPLATE
