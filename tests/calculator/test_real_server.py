"""Made models in the real llama-server: the buffers its log names, beside those the calculator foresaw."""

import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cortex.calculator.calibration import read_log
from cortex.calculator.gguf.header import read_header
from cortex.calculator.gguf.shape import shape_of
from cortex.calculator.llamacpp.plan import options_from
from cortex.calculator.memory import estimate
from tools import engine_image, made_model
from tools.made_model import Shape
from tools.plans import dense_models as dense
from tools.plans import sparse_models as sparse
from tools.plans.layouts import Model
from tools.plans.sparse import write_sparse

pytestmark = pytest.mark.docker
MIB = 1 << 20
START_SECONDS = 60
LISTENING = "listening on"

MADE = {
    "small": Shape(),
    "wide": Shape(layers=8, heads=16, kv_heads=2, head_size=64, feed_forward=2816, vocab=4096, weights="q8_0"),
    "all-heads": Shape(layers=3, heads=4, kv_heads=4, head_size=128, feed_forward=1024, vocab=8192, context=32768),
    "deep": Shape(layers=12, heads=6, kv_heads=1, head_size=64, feed_forward=768, vocab=3000, weights="q8_0"),
}
# true headers over holes: other families, a few layers each
HOLLOW = [
    dense.qwen2("qwen2", dense.keys(4, 896, 14, 2, 4864, 151936, 32768), "Q8_0"),
    dense.qwen3("qwen3", dense.keys(3, 1024, 16, 8, 3072, 32768, 40960), weight="Q8_0"),
    dense.gemma3("gemma3", dense.keys(8, 640, 4, 1, 2048, 64000, 32768), 256, "Q8_0"),
    dense.phi3("phi3", dense.keys(3, 768, 12, 12, 2048, 32064, 4096), "Q8_0"),
    dense.llama("tied", dense.keys(3, 512, 8, 2, 1024, 32000, 8192), tied=True),
    dense.granite("granite", dense.keys(4, 512, 8, 2, 1024, 16384, 8192)),
    dense.bert("bert", dense.keys(6, 384, 12, 12, 1536, 30522, 512)),
    sparse.mixtral("mixtral", dense.keys(3, 512, 8, 2, 1024, 32000, 8192) | sparse.routed(4, 2)),
    sparse.gpt_oss("gpt-oss", dense.keys(4, 512, 8, 2, 512, 32000, 131072) | sparse.routed(8, 4, 512)),
    sparse.mamba("mamba2", dense.keys(4, 512, 0, 0, 0, 32000, 8192), sparse.state(1024, 128, 1, 16)),
    sparse.qwen_next("qwen3.5", "qwen35", dense.keys(4, 1024, 8, 4, 2048, 32000, 32768), sparse.state(1024, 128, 4, 8)),
]
QUANTIZED = "-c 8192 -np 2 -fa on -ctk q8_0 -ctv q8_0 -ub 256"
PLAIN = "-c 2048 -np 4 -fa off -ub 128"
SHARED = "-c 8192 -np 4 -kvu -ub 1024 -b 1024"
LOADS = (
    ("small", "-c 1024 -np 1"),
    ("small", "-c 4096 -np 1 -fa off"),
    ("small", QUANTIZED),
    ("wide", SHARED),
    ("wide", PLAIN),
    ("all-heads", "-c 16384 -np 2 -fa on"),
    ("all-heads", QUANTIZED),
    ("deep", "-c 2048 -np 3 -fa on -ub 64"),
    ("qwen2", PLAIN),
    ("qwen3", QUANTIZED),
    ("gemma3", SHARED),
    ("gemma3", "-c 16384 -np 1 -fa on --swa-full"),
    ("phi3", PLAIN),
    ("tied", "-c 2048 -np 1"),
    ("granite", "-c 4096 -np 2 -fa on"),
    ("bert", "-c 4096 -np 1 -fa on --embeddings"),
    ("mixtral", "-c 4096 -np 1 -fa off"),
    ("gpt-oss", QUANTIZED),
    ("bert", "-c 4096 -np 2 -fa off --embeddings -ub 1024"),
    ("mamba2", PLAIN),
    ("mamba2", "-c 2048 -np 8 -ub 64"),
    ("qwen3.5", SHARED),
)


@pytest.fixture(scope="module")
def image() -> str:
    return engine_image.ensure_llamacpp()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All models; the container's user may read them."""
    folder = tmp_path_factory.mktemp("models")
    for name, shape in MADE.items():
        made_model.write(folder, shape, name)
    for model in HOLLOW:
        write_hollow(folder, model)
    folder.chmod(0o755)
    return folder


def write_hollow(folder: Path, model: Model) -> None:
    write_sparse(folder / f"{model.name}.gguf", model.family, model.header(), model.layout)


@pytest.fixture
def container() -> Iterator[str]:
    name = f"cortex-test-buffers-{uuid.uuid4().hex[:12]}"
    yield name
    subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)


def start_log(container: str, image: str, folder: Path, model: str, words: str) -> list[str]:
    """What llama-server prints until it listens. It has no network, and runs nothing but its start."""
    server = ["--model", f"/models/{model}.gguf", "--host", "127.0.0.1", "--no-warmup", "-t", "1", "-lv", "4"]
    run = ["docker", "run", "--detach", "--network", "none", "--name", container, "--volume", f"{folder}:/models:ro"]
    subprocess.run([*run, image, *server, *words.split()], check=True, capture_output=True)
    until = time.monotonic() + START_SECONDS
    log = ""
    while time.monotonic() < until:
        logs = ["docker", "logs", container]
        log = subprocess.run(logs, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
        if LISTENING in log:
            return log.splitlines()
        time.sleep(0.1)
    pytest.fail(f"llama-server did not start with {model} and {words}. Its log:\n{log}")


@pytest.mark.parametrize(("model", "words"), LOADS, ids=lambda each: each.replace(" ", ""))
def test_the_real_server_takes_what_was_foreseen(
    image: str, folder: Path, container: str, model: str, words: str
) -> None:
    measured = read_log(start_log(container, image, folder, model, words)).host
    options = options_from(words.split())
    embeds = "--embeddings" in words
    options = replace(options, outputs=None if embeds else options.slots, mixed_inputs=True)
    answer = estimate(shape_of(read_header(folder / f"{model}.gguf")), options, [])
    foreseen = {term.name: term.likely for term in answer.host.terms}
    assert measured["weights"] > MIB
    assert measured["compute"] > 0
    for name in ("weights", "kv_cache", "state"):
        assert abs(foreseen.get(name, 0) - measured.get(name, 0)) <= MIB, name
    assert abs(foreseen["compute"] - measured["compute"]) <= max(0.02 * measured["compute"], MIB / 16)
