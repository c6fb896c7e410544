"""Small models of many families, as their config.json says it, and how each is served to be measured."""

from collections.abc import Mapping
from dataclasses import dataclass

SIZES: Mapping[str, object] = {
    "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8,
    "num_key_value_heads": 4, "head_dim": 64, "vocab_size": 2048, "max_position_embeddings": 8192,
    "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
}  # fmt: skip
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 128}
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 64, "mamba_d_state": 64, "mamba_n_groups": 1, "mamba_expand": 2}


@dataclass(frozen=True)
class Served:
    """A made model, and a way to serve it: ``space`` GiB of cache, further words of the command line."""

    name: str
    facts: Mapping[str, object]
    space: int
    words: str

    @property
    def config(self) -> dict[str, object]:
        return {**SIZES, **self.facts}

    @property
    def made(self) -> str:
        """The name of its files: ways to serve the same model share them."""
        return self.name.partition("@")[0]


QWEN = {"model_type": "qwen3", "num_hidden_layers": 6, "num_key_value_heads": 2, "tie_word_embeddings": True}
LLAMA = {"model_type": "llama", "num_key_value_heads": 8, "tie_word_embeddings": False}
COMPRESSED = {
    "kv_lora_rank": 512, "q_lora_rank": 128, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128,
    "n_routed_experts": 8, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "n_shared_experts": 1,
    "num_key_value_heads": 8, "topk_method": "noaux_tc",
}  # fmt: skip
LINEAR = {
    "linear_num_value_heads": 8, "linear_num_key_heads": 4, "linear_value_head_dim": 64, "linear_key_head_dim": 64,
    "linear_conv_kernel_dim": 4, "num_experts": 8, "shared_expert_intermediate_size": 128, "head_dim": 128,
}  # fmt: skip

RUNS = (
    Served("llama", LLAMA, 1, "--max-model-len=4096 --block-size=32 --kv-cache-dtype=fp8"),
    Served("llama@odd", LLAMA, 1, "--max-model-len=2000"),
    Served("qwen3", QWEN, 2, "--max-model-len=8192"),
    Served("qwen3@short", QWEN, 1, "--max-model-len=1024 --block-size=64"),
    Served("phi3", {"model_type": "phi3", "num_hidden_layers": 3}, 3, "--max-model-len=8000 --block-size=256"),
    Served(
        "mistral", {"model_type": "mistral", "sliding_window": 1024}, 1,
        "--max-model-len=8192 --max-num-batched-tokens=512",
    ),
    Served(
        "gemma3", {"model_type": "gemma3_text", "num_hidden_layers": 13, "num_key_value_heads": 2,
                   "sliding_window": 512}, 1, "--max-model-len=8192 --block-size=64",
    ),
    Served("cohere2", {"model_type": "cohere2", "num_hidden_layers": 8, "sliding_window": 512}, 2,
           "--max-model-len=8192 --max-num-batched-tokens=1024"),
    Served("gpt-oss", {"model_type": "gpt_oss", "num_hidden_layers": 6, "sliding_window": 128,
                       "num_local_experts": 8, **EXPERTS}, 1, "--max-model-len=4096"),
    Served("llama4", {"model_type": "llama4_text", "num_hidden_layers": 8, "attention_chunk_size": 1024,
                      "num_local_experts": 4, "num_experts_per_tok": 1, "intermediate_size_mlp": 512}, 1,
           "--max-model-len=8192"),
    Served("deepseek", {"model_type": "deepseek_v3", **COMPRESSED, **EXPERTS}, 1, "--max-model-len=4096"),
    Served("qwen3-moe", {"model_type": "qwen3_moe", "num_experts": 8, **EXPERTS}, 1, "--max-model-len=4096"),
    Served("qwen3-next", {"model_type": "qwen3_next", "num_hidden_layers": 8, **LINEAR, **EXPERTS}, 1,
           "--max-model-len=4096"),
    Served("mamba2", {"model_type": "mamba2", "num_heads": 8, "state_size": 64, "n_groups": 2, "expand": 2,
                      "conv_kernel": 4}, 1, "--max-model-len=4096"),
    Served("falcon-h1", {"model_type": "falcon_h1", "mamba_d_ssm": 512, **MAMBA}, 1, "--max-model-len=4096"),
    Served("granite-hybrid", {"model_type": "granitemoehybrid", "num_hidden_layers": 6,
                              "layer_types": ["mamba", "mamba", "attention"] * 2, **MAMBA, "num_local_experts": 4,
                              "num_experts_per_tok": 2, "shared_intermediate_size": 256, "head_dim": 32}, 1,
           "--max-model-len=4096"),
)  # fmt: skip
