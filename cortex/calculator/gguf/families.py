"""The families llama.cpp knows, by what its loader takes for granted about each (build of 2026-11)."""

from collections.abc import Mapping

RECURRENT = frozenset({"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"})
# one layer of so many sees everything, the others remember in a state
INTERVAL_HYBRIDS: Mapping[str, int] = {"qwen3next": 4, "qwen35": 4, "qwen35moe": 4, "minimax-01": 8}
HEADLESS_HYBRIDS = frozenset(
    [
        "jamba",
        "granitehybrid",
        "plamo2",
        "lfm2",
        "lfm2moe",
        "nemotron_h",
        "nemotron_h_moe",
        "kimi-linear",
        "kimi-k3",
        "bailingmoe3",
    ]
)
POOLED = frozenset(
    [
        "bert",
        "nomic-bert",
        "nomic-bert-moe",
        "jina-bert-v2",
        "jina-bert-v3",
        "neo-bert",
        "eurobert",
        "modern-bert",
        "gemma-embedding",
    ]
)
HEADLESS = POOLED - {"gemma-embedding"}  # the latter's table is loaded a second time as a head that never runs
# the period of the window pattern where a header does not give it, and whether each period begins with a full layer
PATTERNS: Mapping[str, tuple[int, bool]] = {
    "afmoe": (4, False),
    "cohere2": (4, False),
    "cohere2moe": (4, True),
    "exaone4": (4, False),
    "exaone-moe": (4, False),
    "gemma-embedding": (6, False),
    "gemma2": (2, False),
    "gemma3": (6, False),
    "gemma3n": (5, False),
    "gpt-oss": (2, False),
    "laguna": (4, True),
    "llama4": (4, False),
    "mellum": (4, False),
    "modern-bert": (3, True),
    "olmo2": (4, False),
    "plamo3": (8, False),
    "smallthinker": (4, True),
}
WINDOWED = frozenset({*PATTERNS, "gemma4", "mimo2", "step35", "granite-swa", "lfm2"})  # others ignore the key
ASSUMED_WINDOWS = {"llama4": 8192, "exaone4": 4096, "gemma2": 4096}  # where a header does not say
FIXED_WINDOWS = {"llama4": 8192, "smallthinker": 4096}  # whatever a header says
WINDOWED_DEPTHS = {"exaone4": 64}  # only models of so many layers have windows
# run both blocks of a layer at once; StableLM without a second norm, GPT-NeoX unless its header says otherwise
PARALLEL = frozenset({"cohere2", "cohere2moe", "command-r", "falcon", "gptneox", "phi2", "plamo", "stablelm"})
KEYED = frozenset({"gemma4"})  # some layers take their keys as values
INDEXED = frozenset({"deepseek32", "glm-dsa"})  # look only where an index points
# the shares of the experts chosen are brought to a sum of one, whatever the header says
NORMED_SHARES = frozenset(
    [
        "arctic",
        "dbrx",
        "ernie4_5-moe",
        "gemma4",
        "granite",
        "granitehybrid",
        "granitemoe",
        "grok",
        "kimi-linear",
        "lfm2moe",
        "llama",
        "mimo2",
        "minimax-01",
        "minimax-m2",
        "mistral3",
        "phimoe",
        "qwen35moe",
        "qwen3moe",
        "qwen3next",
        "qwen3vlmoe",
        "smallthinker",
    ]
)
INPUTS = ("token_embd.weight", "position_embd.", "token_types.", "per_layer_token_embd.")
OUTPUTS = ("output", "cls", "dense_2", "dense_3", "altup_proj", "altup_unembd_proj")
PLAIN = frozenset(
    [
        "apertus",
        "arcee",
        "arctic",
        "baichuan",
        "bailingmoe",
        "bailingmoe2",
        "bloom",
        "chatglm",
        "command-r",
        "dbrx",
        "deci",
        "deepseek",
        "deepseek2",
        "deepseek32",
        "dots1",
        "ernie4_5",
        "ernie4_5-moe",
        "exaone",
        "falcon",
        "falcon-h1",
        "gemma",
        "glm-dsa",
        "glm4",
        "glm4moe",
        "gpt2",
        "gptneox",
        "granite",
        "granitemoe",
        "grok",
        "hunyuan-dense",
        "hunyuan-moe",
        "internlm2",
        "llama",
        "llama-embed",
        "minicpm",
        "minimax-m2",
        "mistral3",
        "mistral4",
        "mpt",
        "nemotron",
        "orion",
        "olmo",
        "olmoe",
        "phi2",
        "phi3",
        "phimoe",
        "plamo",
        "qwen2",
        "qwen2moe",
        "qwen2vl",
        "qwen3",
        "qwen3moe",
        "qwen3vl",
        "qwen3vlmoe",
        "seed_oss",
        "smollm3",
        "stablelm",
        "starcoder",
        "starcoder2",
        "xverse",
    ]
)
KNOWN = WINDOWED | RECURRENT | frozenset(INTERVAL_HYBRIDS) | HEADLESS_HYBRIDS | POOLED | PLAIN
# those whose graphs were compared with llama.cpp's own plans
COMPARED = frozenset(
    {"afmoe", "apertus", "arcee", "baichuan", "bailingmoe", "bailingmoe2", "bert", "bloom", "chatglm", "cohere2",
     "cohere2moe", "command-r", "dbrx", "deci", "deepseek", "deepseek2", "deepseek32", "dots1", "ernie4_5",
     "ernie4_5-moe", "eurobert", "exaone", "exaone-moe", "exaone4", "falcon", "falcon-h1", "gemma",
     "gemma-embedding", "gemma2", "gemma3", "gemma3n", "gemma4", "glm-dsa", "glm4", "glm4moe", "gpt-oss", "gpt2",
     "gptneox", "granite", "granitehybrid", "granitemoe", "grok", "hunyuan-dense", "hunyuan-moe", "internlm2",
     "jamba", "jina-bert-v2", "jina-bert-v3", "kimi-linear", "lfm2", "lfm2moe", "llama", "llama-embed", "llama4",
     "mamba", "mamba2", "mimo2", "minicpm", "minimax-01", "minimax-m2", "mistral3", "mistral4", "modern-bert", "mpt",
     "nemotron", "nemotron_h", "nemotron_h_moe", "neo-bert", "nomic-bert", "nomic-bert-moe", "olmo", "olmo2",
     "olmoe", "orion", "phi2", "phi3", "phimoe", "plamo", "qwen2", "qwen2moe", "qwen2vl", "qwen3", "qwen35",
     "qwen35moe", "qwen3moe", "qwen3next", "qwen3vl", "qwen3vlmoe", "seed_oss", "smallthinker", "smollm3",
     "stablelm", "starcoder", "starcoder2", "step35", "xverse"}
)  # fmt: skip
