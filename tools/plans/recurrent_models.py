"""Further models whose layers remember in a state."""

from tools.plans.dense_models import keys, rope_of
from tools.plans.layouts import Model, attention, dense, ends, experts, mla, norms, shared_expert, short_convolution
from tools.plans.sparse import Key
from tools.plans.sparse_models import routed


def mamba1(name: str, config: dict[str, Key], rank: int, *, tied: bool, normed: bool = False) -> Model:
    """The first Mamba; ``normed`` as Falcon has it, without weights."""
    inner = 2 * int(str(config["embedding_length"]))
    ssm: dict[str, Key] = {"ssm.inner_size": inner, "ssm.state_size": 16, "ssm.time_step_rank": rank}
    ssm |= {"ssm.conv_kernel": 4} | ({"ssm.dt_b_c_rms": True} if normed else {})
    model = Model(name, "mamba", config | ssm)
    ends(model, tied=tied)
    hidden = model.number("embedding_length")
    for layer in range(model.number("block_count")):
        at = f"blk.{layer}."
        norms(model, layer, "attn_norm")
        model.add(at + "ssm_in.weight", hidden, 2 * inner)
        model.add(at + "ssm_conv1d.weight", 4, inner, type_name="F32")
        model.add(at + "ssm_conv1d.bias", inner)
        model.add(at + "ssm_x.weight", inner, rank + 32)
        model.add(at + "ssm_dt.weight", rank, inner)
        model.add(at + "ssm_dt.bias", inner)
        model.add(at + "ssm_a", 16, inner, type_name="F32")
        model.add(at + "ssm_d", inner)
        model.add(at + "ssm_out.weight", inner, hidden)
    return model


def lfm2moe(name: str, config: dict[str, Key], full: set[int]) -> Model:
    count = int(str(config["block_count"]))
    kv_heads = [8 if layer in full else 0 for layer in range(count)]
    extra: dict[str, Key] = {"shortconv.l_cache": 3, "attention.head_count_kv": kv_heads}
    extra |= {"leading_dense_block_count": 2, "expert_gating_func": 2}
    model = rope_of(Model(name, "lfm2moe", config | extra))
    ends(model, tied=True)
    model.layout["token_embd_norm.weight"] = model.layout.pop("output_norm.weight")
    for layer in range(count):
        norms(model, layer, "attn_norm", "ffn_norm")
        if layer < 2:
            dense(model, layer)
        else:
            experts(model, layer)
            model.add(f"blk.{layer}.exp_probs_b.bias", model.number("expert_count"))
        if layer in full:
            attention(model, layer, norms=True)
        else:
            short_convolution(model, layer)
    return model


def kimi_linear(name: str, config: dict[str, Key], full: set[int]) -> Model:
    count = int(str(config["block_count"]))
    extra: dict[str, Key] = {
        "attention.head_count_kv": [1 if layer in full else 0 for layer in range(count)],
        "attention.kv_lora_rank": 512,
        "attention.key_length": 576,
        "attention.value_length": 512,
        "attention.key_length_mla": 192,
        "attention.value_length_mla": 128,
        "rope.dimension_count": 64,
        "kda.head_dim": 128,
        "ssm.conv_kernel": 4,
        "leading_dense_block_count": 1,
        "expert_shared_count": 1,
        "expert_gating_func": 2,
        "expert_weights_scale": 2.446,
    }
    model = Model(name, "kimi-linear", config | extra)
    ends(model)
    for layer in range(count):
        norms(model, layer, "attn_norm", "ffn_norm")
        if layer in full:
            mla(model, layer)
        else:
            _delta_attention(model, layer)
        if layer:
            experts(model, layer)
            shared_expert(model, layer, model.number("expert_feed_forward_length"))
            model.add(f"blk.{layer}.exp_probs_b.bias", model.number("expert_count"))
        else:
            dense(model, layer)
    return model


def _delta_attention(model: Model, layer: int) -> None:
    hidden, head, heads = model.number("embedding_length"), 128, model.number("attention.head_count")
    at = f"blk.{layer}."
    for letter in "qkv":
        model.add(f"{at}attn_{letter}.weight", hidden, heads * head)
        model.add(f"{at}ssm_conv1d_{letter}.weight", 4, 1, heads * head, type_name="F32")
    for part in "fg":
        model.add(f"{at}ssm_{part}_a.weight", hidden, head)
        model.add(f"{at}ssm_{part}_b.weight", head, heads * head)
    model.add(at + "ssm_beta.weight", hidden, heads)
    model.add(at + "ssm_a", 1, heads, type_name="F32")
    model.add(at + "ssm_dt.bias", heads * head)
    model.add(at + "ssm_norm.weight", head)
    model.add(at + "attn_output.weight", heads * head, hidden)


def minimax_01(name: str, config: dict[str, Key]) -> Model:
    sizes: dict[str, Key] = {"attention.key_length": 128, "attention.value_length": 128, "rope.dimension_count": 64}
    model = Model(name, "minimax-01", config | sizes | {"residual_scale": 3.5, "full_attention_interval": 8})
    ends(model)
    hidden, width = model.number("embedding_length"), model.number("attention.head_count") * 128
    for layer in range(model.number("block_count")):
        at = f"blk.{layer}."
        norms(model, layer, "attn_norm", "ffn_norm")
        if layer % 8 == 7:
            attention(model, layer)
        else:
            model.add(at + "attn_norm_2.weight", width)
            model.add(at + "attn_qkv.weight", hidden, 3 * width)
            model.add(at + "attn_gate.weight", hidden, width)
            model.add(at + "attn_output.weight", width, hidden)
        experts(model, layer)
    return model


def recurrent_models() -> list[Model]:
    """From 2.8 to 456 billion parameters."""
    return [
        mamba1("mamba-2.8b", keys(64, 2560, 0, 0, 0, 50280, 1048576), 160, tied=True),
        mamba1("falcon-mamba-7b", keys(64, 4096, 0, 0, 0, 65024, 1048576), 256, tied=False, normed=True),
        lfm2moe("lfm2-8b-a1b", keys(24, 2048, 32, 8, 7168, 65536, 128000) | routed(32, 4, 1792),
            {2, 6, 10, 14, 18, 21}),
        kimi_linear("kimi-linear-48b", keys(27, 2304, 32, 32, 9216, 163840, 1048576) | routed(256, 8, 1024),
            {3, 7, 11, 15, 19, 23, 26}),
        minimax_01("minimax-text-01", keys(80, 6144, 64, 8, 9216, 200064, 1000000) | routed(32, 2)),
    ]  # fmt: skip
