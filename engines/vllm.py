"""vLLM: safetensors models on GPUs, for many users at once."""

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from engines.contract import (
    MODELS,
    PULSE_SECONDS,
    ContainerSpec,
    Diagnosis,
    Engine,
    Launch,
    Mount,
    Probe,
    start_deadline,
)
from engines.diagnosis import judge
from engines.habits import MemoryHabits
from engines.symptoms import VLLM
from engines.vllm_memory import CPU_CACHE_GIB, GIB, habits_of
from engines.vllm_options import VllmOptions

TEMPLATES = PurePosixPath("/vllm-workspace/examples")
CACHE = "/tmp/cache"  # noqa: S108 - the container's own tmpfs
OPTION_OF = {
    "fraction": "gpu_memory_utilization", "cache_type": "kv_cache_dtype", "batched_tokens": "max_num_batched_tokens",
    "eager": "enforce_eager", "tensor": "tensor_parallel_size", "cache_bytes": "kv_cache_memory_bytes",
}  # fmt: skip
ONLINE_OF: dict[object, str] = {8.0: "fp8_per_tensor"}  # fp8 still means it, with a warning


class Vllm(Engine):
    """``vllm serve`` in a container, one model each."""

    name = "vllm"
    title = "vLLM"
    summary = "Safetensors models on GPUs. Fast with many users at once."
    Options = VllmOptions
    image = "vllm/vllm-openai:v0.32.0"
    formats = frozenset({"safetensors"})
    tasks = frozenset({"generate", "embed", "rerank"})
    milestones = {
        "weights": r"Model loading took |Loading (?:model )?weights took ",
        "cache": r"KV cache size: [\d,]+ tokens|# (?:GPU|CPU|cuda) blocks: ",
    }

    def spec(self, launch: Launch) -> ContainerSpec:
        """The container of ``vllm serve``.

        Without GPUs the launch must name a CPU build as its image: the official one has CUDA kernels only.
        """
        options = VllmOptions.model_validate(launch.options, context={"gpus": len(launch.gpus)})
        spec = ContainerSpec(
            image=launch.image or self.image,
            entrypoint=("vllm", "serve"),
            argv=(),
            env=_environment(launch, options),
            mounts=(Mount(source=launch.host_models, target=str(MODELS)),),
            gpus=launch.gpus,
            pulse=_one_token(launch.served_name),
            # Workers of one model pass tensors through /dev/shm; Docker's own 64 MiB end in a bus error.
            shm=4 * GIB * max(1, len(launch.gpus)),
            start_deadline=start_deadline(launch.files.size, floor=180 if options.enforce_eager else 600),
            stop_grace=30,
        )
        return spec.model_copy(update={"argv": (*_managed(launch, options, spec.port), *options.extra_args)})

    def memory(self, launch: Launch) -> MemoryHabits:
        """vLLM fills its share of each GPU: weights first, then what a full batch takes, the rest is cache."""
        return habits_of(launch, VllmOptions.model_validate(launch.options, context={"gpus": len(launch.gpus)}))

    def options_for(self, habits: Mapping[str, object]) -> dict[str, object]:
        """Share, cache, batch, graphs, split and quantization by vLLM's names."""
        options = {OPTION_OF[habit]: value for habit, value in habits.items() if habit in OPTION_OF}
        online = ONLINE_OF.get(habits.get("weight_bits"))
        return options | ({"quantization": online} if online else {})

    def diagnose(self, log: Sequence[str], exit_code: int | None) -> Diagnosis | None:
        """Why vLLM ended."""
        return judge(log, exit_code, VLLM)


def _one_token(name: str) -> Probe:
    """Its /metrics and /health come from another process than its tokens. One that embeds answers with an error."""
    body = json.dumps({"model": name, "prompt": "a", "max_tokens": 1})
    return Probe(path="/v1/completions", body=body, any_answer=True, timeout=PULSE_SECONDS)


def _managed(launch: Launch, options: VllmOptions, port: int) -> list[str]:
    words = [str(launch.files.path), f"--served-model-name={launch.served_name}"]
    words += ["--host=0.0.0.0", f"--port={port}", "--disable-uvicorn-access-log"]
    if launch.context is not None:
        words.append(f"--max-model-len={launch.context}")
    if options.chat_template is not None:
        words.append(f"--chat-template={TEMPLATES / options.chat_template}.jinja")
    return words + _defaults(launch, options).argv()


def _defaults(launch: Launch, options: VllmOptions) -> VllmOptions:
    """The options with what Cortex chooses where people chose nothing."""
    chosen: dict[str, object] = {}
    if options.max_num_seqs is None:
        chosen["max_num_seqs"] = launch.users
    if options.tensor_parallel_size is None and launch.gpus:
        chosen["tensor_parallel_size"] = len(launch.gpus) // (options.pipeline_parallel_size or 1)
    return options.model_copy(update=chosen)


def _environment(launch: Launch, options: VllmOptions) -> dict[str, str]:
    env = {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HOME": "/tmp",  # noqa: S108 - the container's own tmpfs
        "XDG_CACHE_HOME": CACHE,
        "HF_HOME": f"{CACHE}/huggingface",
        "VLLM_CACHE_ROOT": f"{CACHE}/vllm",
        "TRITON_CACHE_DIR": f"{CACHE}/triton",
        "TORCHINDUCTOR_CACHE_DIR": f"{CACHE}/inductor",
        "FLASHINFER_WORKSPACE_BASE": CACHE,
    }
    return env | (_for_gpus(launch, options) if launch.gpus else _for_cpu(options))


def _for_gpus(launch: Launch, options: VllmOptions) -> dict[str, str]:
    env = {
        "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    }
    if len(launch.gpus) > 1:
        env["NCCL_P2P_DISABLE"] = "0" if options.nccl_p2p else "1"
        env["NCCL_IB_DISABLE"] = "0" if options.nccl_infiniband else "1"
    return env


def _for_cpu(options: VllmOptions) -> dict[str, str]:
    env = {"VLLM_TARGET_DEVICE": "cpu"}  # builds that do not say so in their version look here
    if options.kv_cache_memory_bytes:
        return env
    return env | {"VLLM_CPU_KVCACHE_SPACE": str(options.cpu_kv_cache_gib or CPU_CACHE_GIB)}
