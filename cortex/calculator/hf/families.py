"""Families of Hugging Face models: how their layers see, and usual sizes that their configs leave out."""

ENCODERS = frozenset(
    {"bert", "roberta", "xlm-roberta", "xlm-roberta-xl", "roberta-prelayernorm", "nomic_bert", "modernbert", "mpnet",
     "distilbert", "deberta", "deberta-v2", "new", "camembert", "electra", "gte", "eurobert", "neobert", "jina_bert",
     "jina_embeddings_v3", "albert", "ernie", "convbert", "megatron-bert", "mobilebert", "squeezebert",
     "llama_bidirec"}
)  # fmt: skip
# families whose window covers every layer, when there is one
ALL_WINDOWED = frozenset({"mistral", "mixtral", "phi3", "starcoder2", "ministral"})
# the period of the window pattern of configs without "layer_types"; the last layer of each period sees everything
PERIODS = {"gemma2": 2, "gemma3": 6, "cohere2": 4, "gpt_oss": 2, "llama4": 4, "gemma4": 6, "gemma3n": 5}
PLAIN = frozenset(
    {"llama", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "gemma", "phi", "phimoe", "phi4mm", "phi4_multimodal",
     "cohere", "granite", "granitemoe", "granitemoeshared", "deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2",
     "glm", "glm4", "glm4_moe", "glm4_moe_lite", "glm4v", "glm4v_moe", "glm_moe_dsa", "chatglm", "minimax_m2", "olmo",
     "olmo2", "olmo3", "stablelm", "falcon", "gpt2", "gpt_neox", "gpt_bigcode", "bloom", "mpt", "internlm2", "exaone",
     "exaone4", "baichuan", "nemotron", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen2_5_omni",
     "qwen3_omni_moe", "mllama", "ministral3", "smollm3", "seed_oss", "dbrx", "nemotron-nas"}
)  # fmt: skip
# linear attention whose state is a square per head, kept in 16 bits
LIGHTNING = frozenset({"minimax", "minimax_text_01", "minimax_m1"})
HYBRID = LIGHTNING | frozenset(
    {"mamba", "mamba2", "falcon_mamba", "jamba", "falcon_h1", "nemotron_h", "bamba", "granitemoehybrid", "qwen3_next",
     "qwen3_5", "qwen3_5_moe", "kimi_linear", "zamba2", "lfm2", "lfm2_moe"}
)  # fmt: skip
KNOWN = ENCODERS | ALL_WINDOWED | PERIODS.keys() | PLAIN | HYBRID

SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
         "intermediate_size", "vocab_size", "max_position_embeddings", "sliding_window")  # fmt: skip
# what transformers takes for a size that config.json does not name; 0: nothing. Publishers of models that also see
# leave most of them out of the part that describes the language.
USUAL: dict[str, tuple[int, ...]] = {
    "llama": (4096, 32, 32, 0, 0, 11008, 32000, 2048, 0),
    "mistral": (4096, 32, 32, 8, 0, 14336, 32000, 131072, 4096),
    "mixtral": (4096, 32, 32, 8, 0, 14336, 32000, 131072, 0),
    "ministral3": (4096, 34, 32, 8, 128, 14336, 131072, 262144, 0),
    "qwen2": (4096, 32, 32, 32, 0, 22016, 151936, 32768, 0),
    "qwen2_vl": (8192, 80, 64, 8, 0, 29568, 152064, 32768, 0),
    "qwen2_5_vl": (8192, 80, 64, 8, 0, 29568, 152064, 32768, 0),
    "qwen2_5_omni": (3584, 28, 28, 4, 0, 18944, 152064, 32768, 0),
    "qwen3": (4096, 32, 32, 32, 128, 22016, 151936, 32768, 0),
    "qwen3_moe": (2048, 24, 32, 4, 0, 6144, 151936, 32768, 0),
    "qwen3_vl": (4096, 32, 32, 32, 128, 22016, 151936, 128000, 0),
    "qwen3_vl_moe": (2048, 24, 16, 16, 128, 5632, 151936, 128000, 0),
    "qwen3_next": (2048, 48, 16, 2, 256, 5632, 151936, 32768, 0),
    "qwen3_5": (4096, 32, 16, 4, 256, 12288, 248320, 32768, 0),
    "qwen3_5_moe": (2048, 40, 16, 2, 256, 0, 248320, 32768, 0),
    "gemma": (3072, 28, 16, 16, 256, 24576, 256000, 8192, 0),
    "gemma2": (2304, 26, 8, 4, 256, 9216, 256000, 8192, 4096),
    "gemma3": (2304, 26, 8, 4, 256, 9216, 262208, 131072, 4096),
    "gemma3n": (2048, 35, 8, 2, 256, 16384, 262400, 32768, 512),
    "gemma4": (2304, 30, 8, 4, 256, 9216, 262144, 131072, 512),
    "phi3": (3072, 32, 32, 0, 0, 8192, 32064, 4096, 0),
    "cohere": (8192, 40, 64, 0, 0, 22528, 256000, 8192, 0),
    "cohere2": (8192, 40, 64, 0, 128, 22528, 256000, 8192, 4096),
    "deepseek_v2": (4096, 32, 32, 0, 0, 11008, 102400, 2048, 0),
    "deepseek_v3": (7168, 61, 128, 128, 0, 18432, 129280, 4096, 0),
    "llama4": (5120, 48, 40, 8, 128, 8192, 202048, 131072, 0),
    "mllama": (4096, 40, 32, 8, 0, 14336, 128256, 131072, 0),
    "glm": (4096, 40, 32, 2, 128, 13696, 151552, 131072, 0),
    "glm4": (4096, 40, 32, 2, 128, 13696, 151552, 131072, 0),
    "glm4v": (4096, 40, 32, 2, 0, 13696, 151552, 32768, 0),
    "glm4v_moe": (4096, 46, 96, 8, 0, 10944, 151424, 65536, 0),
    "gpt_oss": (2880, 36, 64, 8, 64, 2880, 201088, 131072, 128),
    "granite": (4096, 32, 32, 0, 0, 11008, 32000, 2048, 0),
    "bert": (768, 12, 12, 0, 0, 3072, 30522, 512, 0),
    "roberta": (768, 12, 12, 0, 0, 3072, 50265, 512, 0),
    "xlm-roberta": (768, 12, 12, 0, 0, 3072, 30522, 512, 0),
    "modernbert": (768, 22, 12, 0, 0, 1152, 50368, 8192, 0),
    "mpnet": (768, 12, 12, 0, 0, 3072, 30527, 512, 0),
}  # fmt: skip


def stem(family: str) -> str:
    """The family of a model's language part: qwen3_vl of qwen3_vl_text, mllama of mllama_text_model."""
    return family.removesuffix("_model").removesuffix("_text")


COMPRESSING = frozenset({"deepseek_v2", "deepseek_v3", "kimi_k2"})
COMPRESSED = {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128}


def usual(family: str) -> dict[str, int]:
    """The sizes a config of this family need not name."""
    sizes = {name: size for name, size in zip(SIZES, USUAL.get(stem(family), ()), strict=False) if size}
    return sizes | (COMPRESSED if stem(family) in COMPRESSING else {})
