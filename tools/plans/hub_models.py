"""Dense families that hubs are full of: sizes as published."""

from tools.plans.decoders import QKV, Style, decoder
from tools.plans.dense_models import keys
from tools.plans.layouts import Model
from tools.plans.sparse import Key

HEADS = Style(normed="head")
TIED = Style(tied=True)
WIDE: dict[str, Key] = {"attention.key_length": 128, "attention.value_length": 128}


def exaone4(name: str, config: dict[str, Key], *, tied: bool) -> Model:
    window: dict[str, Key] = {} if tied else {"attention.sliding_window": 4096}
    style = Style(norms=("post_attention_norm", "post_ffw_norm"), normed="head", tied=tied)
    return decoder(name, "exaone4", config | window, style)


def seed_oss(name: str, config: dict[str, Key]) -> Model:
    return decoder(name, "seed_oss", config | WIDE, Style(norms=("attn_norm", "post_attention_norm"), biased=QKV))


def stablelm(name: str, config: dict[str, Key], *, parallel: bool) -> Model:
    """The larger ones run both blocks at once and norm each head."""
    norms = ("attn_norm",) if parallel else ("attn_norm", "ffn_norm")
    style = Style(norms=norms, biased=(*norms, "output_norm"), normed="each" if parallel else "")
    hidden, heads = int(str(config["embedding_length"])), int(str(config["attention.head_count"]))
    turned: dict[str, Key] = {"rope.dimension_count": hidden // heads // 4, "use_parallel_residual": parallel}
    return decoder(name, "stablelm", config | turned, style)


def phi2(name: str, config: dict[str, Key]) -> Model:
    biased = ("attn_norm", "attn_qkv", "attn_output", "ffn_up", "ffn_down", "output_norm", "output")
    style = Style(norms=("attn_norm",), biased=biased, fused=True, plain=True)
    return decoder(name, "phi2", config | {"rope.dimension_count": 32}, style)


def gptneox(name: str, config: dict[str, Key], *, parallel: bool = True) -> Model:
    biased = ("attn_norm", "ffn_norm", "attn_qkv", "attn_output", "ffn_up", "ffn_down", "output_norm")
    extra: dict[str, Key] = {"use_parallel_residual": parallel, "rope.dimension_count": 32}
    return decoder(name, "gptneox", config | extra, Style(biased=biased, fused=True, plain=True), "Q8_0")


def falcon(name: str, config: dict[str, Key], *, twice: bool) -> Model:
    """The larger one norms the input of each block by itself."""
    norms = ("attn_norm", "attn_norm_2") if twice else ("attn_norm",)
    style = Style(norms=norms, biased=(*norms, "output_norm"), fused=True, plain=True)
    return decoder(name, "falcon", config, style, "Q8_0")


def positioned(name: str, family: str, config: dict[str, Key], *, tied: bool = False) -> Model:
    """GPT-2 and StarCoder: positions are looked up in a table."""
    biased = ("attn_norm", "ffn_norm", "attn_qkv", "attn_output", "ffn_up", "ffn_down", "output_norm")
    model = decoder(name, family, config, Style(biased=biased, fused=True, plain=True, tied=tied), "Q8_0")
    shape = model.number("embedding_length"), model.number("context_length")
    model.add("position_embd.weight", *shape, type_name="F32")
    return model


def apertus(name: str, config: dict[str, Key]) -> Model:
    count = int(str(config["block_count"]))
    curve: dict[str, Key] = {f"xielu.{part}": [0.5] * count for part in ("alpha_n", "alpha_p", "beta", "eps")}
    return decoder(name, "apertus", config | curve, Style(normed="head", plain=True))


def orion(name: str, config: dict[str, Key]) -> Model:
    return decoder(name, "orion", config, Style(biased=("attn_norm", "ffn_norm", "output_norm")))


def gemma_embedding(name: str, config: dict[str, Key]) -> Model:
    extra: dict[str, Key] = {
        "attention.key_length": 256,
        "attention.value_length": 256,
        "attention.sliding_window": 512,
        "attention.causal": False,
        "pooling_type": 1,
        "dense_2_feat_in": 768,
        "dense_2_feat_out": 3072,
        "dense_3_feat_in": 3072,
        "dense_3_feat_out": 768,
    }
    norms = ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
    model = decoder(name, "gemma-embedding", config | extra, Style(norms=norms, normed="head", tied=True), "Q8_0")
    model.add("dense_2.weight", 768, 3072)
    model.add("dense_3.weight", 3072, 768)
    return model


def hub_models() -> list[Model]:
    """From 0.3 to 104 billion parameters."""
    return [
        decoder("exaone-3.5-7.8b", "exaone", keys(32, 4096, 32, 8, 14336, 102400, 32768)),
        exaone4("exaone-4.0-32b", keys(64, 5120, 40, 8, 27392, 102400, 131072), tied=False),
        exaone4("exaone-4.0-1.2b", keys(30, 2048, 32, 8, 4096, 102400, 65536), tied=True),
        decoder("smollm3-3b", "smollm3", keys(36, 2048, 16, 4, 11008, 128256, 65536), TIED),
        decoder("ernie-4.5-0.3b", "ernie4_5", keys(18, 1024, 16, 2, 3072, 103424, 131072) | WIDE, TIED),
        decoder("hunyuan-7b", "hunyuan-dense", keys(32, 4096, 32, 8, 14336, 128167, 262144) | WIDE,
            Style(normed="head", tied=True)),
        seed_oss("seed-oss-36b", keys(64, 5120, 80, 8, 27648, 155136, 524288)),
        decoder("internlm2.5-20b", "internlm2", keys(48, 6144, 48, 8, 16384, 92544, 32768)),
        decoder("afm-4.5b", "arcee", keys(36, 2560, 20, 4, 18432, 128004, 65536), Style(plain=True)),
        stablelm("stablelm-2-12b", keys(40, 5120, 32, 8, 13824, 100352, 4096), parallel=True),
        stablelm("stablelm-zephyr-3b", keys(32, 2560, 32, 32, 6912, 50304, 4096), parallel=False),
        phi2("phi-2", keys(32, 2560, 32, 32, 10240, 51200, 2048)),
        gptneox("pythia-12b", keys(36, 5120, 40, 40, 20480, 50688, 2048)),
        falcon("falcon-7b", keys(32, 4544, 71, 1, 18176, 65024, 2048), twice=False),
        falcon("falcon-40b", keys(60, 8192, 128, 8, 32768, 65024, 2048), twice=True),
        positioned("starcoder-15b", "starcoder", keys(40, 6144, 48, 1, 24576, 49152, 8192)),
        positioned("gpt2-xl", "gpt2", keys(48, 1600, 25, 25, 6400, 50257, 1024), tied=True),
        decoder("baichuan2-13b", "baichuan", keys(40, 5120, 40, 40, 13696, 125696, 4096)),
        decoder("baichuan2-7b", "baichuan", keys(32, 4096, 32, 32, 11008, 125696, 4096)),
        apertus("apertus-8b", keys(32, 4096, 32, 8, 21504, 131072, 65536)),
        orion("orion-14b", keys(40, 5120, 40, 40, 15360, 84608, 4096)),
        decoder("plamo-13b", "plamo", keys(40, 5120, 40, 5, 13824, 50432, 4096), Style(norms=("attn_norm",))),
        decoder("xverse-13b", "xverse", keys(40, 5120, 40, 40, 13824, 100534, 8192)),
        decoder("command-r-plus-104b", "command-r", keys(64, 12288, 96, 8, 33792, 256000, 131072)
            | {"logit_scale": 0.833}, Style(norms=("attn_norm",), normed="each", tied=True)),
        gemma_embedding("embeddinggemma-300m", keys(24, 768, 3, 1, 1152, 262144, 2048)),
    ]  # fmt: skip
