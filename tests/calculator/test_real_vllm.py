"""Made models in the real vLLM on the processor: the tokens it says it keeps, beside those computed and recorded."""

from pathlib import Path

import pytest

from cortex.calculator.calibration import read_log
from cortex.calculator.hf.shape import read_folder
from cortex.calculator.serving import concurrency, tokens_told
from engines import engine
from tests.calculator.test_vllm_pools import GIB, RECORD
from tests.engines.launches import launch
from tests.engines.test_vllm import KNOWN
from tools.served import record, vllm
from tools.served.families import RUNS, Served
from tools.yardsticks import cpu_options

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def home() -> Path:
    found = vllm.find()
    if found is None:
        pytest.skip(f"vLLM is not installed. {vllm.HOW}")
    return found


@pytest.fixture(scope="module")
def folder(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    record.write_models(home, folder, RUNS)
    return folder


@pytest.mark.parametrize("wanted", RUNS, ids=lambda run: run.name)
def test_the_real_vllm_keeps_the_tokens_that_were_computed(
    home: Path, folder: Path, tmp_path: Path, wanted: Served
) -> None:
    expected = RECORD["rows"][wanted.name]
    if "refused" in expected:
        assert isinstance(record.measure(home, folder, wanted), str)
        return
    with record.serving(home, folder, wanted, tmp_path / "vllm.log") as log:
        kept = record.read_log(log)
    assert kept
    assert read_log(log.splitlines()).tokens == kept.tokens
    shape, options = read_folder(folder / wanted.made), cpu_options(wanted.words)
    assert tokens_told(shape, options, wanted.space * GIB) == pytest.approx(kept.tokens, rel=0.02)
    assert concurrency(shape, options, wanted.space * GIB) == pytest.approx(kept.concurrency, rel=0.02)
    assert (kept.tokens, kept.concurrency) == (expected["tokens"], expected["concurrency"])


def test_the_real_parser_knows_the_flags_that_were_recorded(home: Path) -> None:
    assert vllm.known_options(home) == KNOWN
    assert engine("vllm").spec(launch(gpus=())).image.endswith(vllm.VERSION)
