"""A byte-level BPE vocabulary trained on the licence texts that every Debian carries."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

LICENCES = Path("/usr/share/common-licenses")
OWN_TEXTS = Path(__file__).parent.parent
SYSTEM, USER, ASSISTANT, END = "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"
SPECIAL = (END, SYSTEM, USER, ASSISTANT)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id, the merges that make them, and the trained tokenizer itself."""

    tokens: tuple[str, ...]
    merges: tuple[str, ...]
    unused: frozenset[int]
    tokenizer: Tokenizer

    @property
    def special(self) -> frozenset[int]:
        """The ids of the chat template's own tokens."""
        return frozenset(range(len(SPECIAL)))

    @property
    def end(self) -> int:
        """The id of the token that ends an answer."""
        return self.tokens.index(END)

    def encode(self, text: str) -> list[int]:
        """The ids of a text."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)


def train(size: int, known: str) -> Vocabulary:
    """A vocabulary of exactly ``size`` tokens in which every word of ``known`` is one token.

    Raises ValueError when ``size`` is too small for the bytes, the special tokens and those words.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    # Said often enough, the words of the known text are merged before anything else.
    tokenizer.train_from_iterator([known] * 2_000 + corpus(), trainer)
    unused = [f"<|unused_{number}|>" for number in range(size - tokenizer.get_vocab_size())]
    if unused:
        tokenizer.add_special_tokens(unused)
    return _vocabulary(tokenizer, size, len(unused))


def corpus() -> list[str]:
    """The texts a vocabulary is trained on, in a fixed order: the licences of this machine, or else our own."""
    files = sorted(path for path in LICENCES.glob("*") if path.is_file() and not path.is_symlink())
    files = files or sorted([*OWN_TEXTS.glob("LICENSE"), *OWN_TEXTS.glob("*.md"), *OWN_TEXTS.glob("docs/**/*.md")])
    return [path.read_text(encoding="utf-8", errors="replace") for path in files]


def hugging_face_files(vocabulary: Vocabulary, context: int) -> dict[str, str]:
    """``tokenizer.json`` and its configuration, as Transformers and vLLM read them."""
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": CHAT_TEMPLATE,
        "eos_token": END,
        "pad_token": END,
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
    }
    return {
        "tokenizer.json": vocabulary.tokenizer.to_str(),
        "tokenizer_config.json": json.dumps(config, indent=2),
    }


def _vocabulary(tokenizer: Tokenizer, size: int, unused: int) -> Vocabulary:
    by_id = {number: token for token, number in tokenizer.get_vocab().items()}
    if len(by_id) != size:
        raise ValueError(
            f"A vocabulary of {size} tokens is too small: bytes and special tokens alone are {len(by_id)}."
        )
    return Vocabulary(
        tokens=tuple(by_id[number] for number in range(size)),
        merges=tuple(_merge(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]),
        unused=frozenset(range(size - unused, size)),
        tokenizer=tokenizer,
    )


def _merge(pair: str | Sequence[str]) -> str:
    return pair if isinstance(pair, str) else " ".join(pair)
