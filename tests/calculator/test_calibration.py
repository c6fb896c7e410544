from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from cortex.calculator.calibration import calibrated, read_log
from cortex.calculator.memory import Card, Estimate, estimate
from engines.habits import LlamaOptions, ServeOptions
from tests.calculator.shapes import published

MIB, GIB = 1 << 20, 1 << 30
VLLM = """
INFO gpu_model_runner.py:1892] Model loading took 15.00 GiB and 7.1 seconds
INFO gpu_worker.py:297] Available KV cache memory: 56.21 GiB
INFO kv_cache_utils.py:864] GPU KV cache size: 460,496 tokens
INFO gpu_model_runner.py:2480] Graph capturing finished in 11 secs, took 0.23 GiB
""".splitlines()
SGLANG = """
Load weight end. type=Qwen3MoeForCausalLM, dtype=torch.bfloat16, avail mem=61.2 GB, mem usage=16.41 GB.
KV Cache is allocated. dtype: torch.bfloat16, #tokens: 549277, K size: 25.14 GB, V size: 25.14 GB
Capture cuda graph end. Time elapsed: 9.1 s. mem usage=1.10 GB. avail mem=8.9 GB.
""".splitlines()
LLAMA = """
load_tensors:   CPU_Mapped model buffer size =   682.03 MiB
load_tensors:        CUDA0 model buffer size = 16028.79 MiB
llama_kv_cache:      CUDA0 KV buffer size =  1600.00 MiB
llama_kv_cache:      CUDA0 KV buffer size =    60.00 MiB
llama_memory_recurrent:      CUDA0 RS buffer size =   149.62 MiB
llama_context:      CUDA0 compute buffer size =    38.50 MiB
""".splitlines()


def term(answer: Estimate, name: str) -> int:
    return next(each.likely for each in answer.gpus[0].terms if each.name == name)


def test_vllm_says_what_it_took() -> None:
    measured = read_log(VLLM)
    assert measured.terms == {"weights": 15 * GIB, "kv_cache": int(56.21 * GIB), "cuda_graphs": int(0.23 * GIB)}
    assert measured.tokens == 460496


def test_sglang_says_what_it_took() -> None:
    measured = read_log(SGLANG)
    assert measured.terms["weights"] == int(16.41 * GIB)
    assert measured.terms["kv_cache"] == 2 * int(25.14 * GIB)
    assert measured.tokens == 549277


def test_llama_cpp_lines_of_one_kind_are_summed() -> None:
    measured = read_log(LLAMA)
    assert measured.terms["kv_cache"] == 1660 * MIB
    assert measured.terms["compute"] == int(38.5 * MIB)


def test_llama_cpp_buffers_of_the_host_are_kept_apart() -> None:
    host = [
        "load_tensors:   CPU_Mapped model buffer size =   100.50 MiB",
        "load_tensors:   CPU_REPACK model buffer size =    50.00 MiB",
        "llama_kv_cache:        CPU KV buffer size =     2.00 MiB",
        "llama_context:  CUDA_Host  output buffer size =     0.50 MiB",
        "sched_reserve:  CUDA_Host compute buffer size =    24.01 MiB",
    ]
    measured = read_log([*LLAMA, *host])
    assert measured.terms == read_log(LLAMA).terms
    assert measured.host == {
        "weights": int(682.03 * MIB) + int(150.5 * MIB),
        "kv_cache": 2 * MIB,
        "outputs": MIB // 2,
        "compute": int(24.01 * MIB),
    }


@given(st.lists(st.text()))
def test_any_other_line_is_passed_over(lines: list[str]) -> None:
    assert read_log(lines).terms == {}


def test_numbers_beyond_belief_are_dropped() -> None:
    assert read_log(["Model loading took 99999999999999999 GiB", "Model loading took ... GiB"]).terms == {}


def test_the_second_estimate_follows_the_first_start() -> None:
    shape = published()["llama-3.1-8b.gguf"]
    first = estimate(shape, ServeOptions(), [Card(80 * GIB)])
    second = calibrated(first, read_log(VLLM))
    assert term(second, "weights") == 15 * GIB
    assert term(second, "kv_cache") == term(first, "kv_cache")
    assert "earlier start" in second.assumptions[-1]


def test_what_the_card_shows_beyond_all_terms_is_the_runtime() -> None:
    shape = published()["llama-3.1-8b.gguf"]
    first = estimate(shape, LlamaOptions(context=8192), [Card(24 * GIB)])
    rest = sum(each.likely for each in first.gpus[0].terms if each.name != "runtime")
    measured = replace(read_log([]), devices=(rest + 310 * MIB,))
    assert term(calibrated(first, measured), "runtime") == 310 * MIB


def test_a_projector_and_adapters_are_on_the_first_card() -> None:
    shape = published()["llama-3.1-8b.gguf"]
    options = LlamaOptions(context=8192, projector_bytes=888 * MIB, lora_bytes=100 * MIB)
    answer = estimate(shape, options, [Card(24 * GIB)] * 2)
    assert [sum(each.name == "projector" for each in need.terms) for need in answer.gpus] == [1, 0]
    assert answer.disk == shape.file_bytes + 988 * MIB
