import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from engines import all_engines, engine
from engines.argv import Arguments, flags, matches
from engines.contract import Engine
from tests.engines.launches import GPU_A, launch

ENGINES = sorted(name for name, kind in all_engines().items() if issubclass(kind.Options, Arguments))


def denied(kind: Engine) -> list[str]:
    """Every flag that may not be among the extra arguments of an engine."""
    options = kind.Options
    assert issubclass(options, Arguments)
    named = [flag for pattern in options.refused for flag in pattern.split()]
    return named + [flag for field in options.model_fields.values() for flag in flags(field.json_schema_extra)]


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize(
    "extra",
    [
        ["--port", "1"],
        ["--port=1"],
        ["--por=1"],
        ["--host", "::"],
        ["--api-key=x"],
        ["--api_key", "x"],
        ["--ssl_keyfile=x"],
        ["--ssl-cert-file", "x"],
        ["--model", "x"],
        ["--hf-token=x"],
        ["--chat-template=/etc/passwd"],
        ["--verbose", "--port", "1"],
    ],
)
def test_what_cortex_sets_may_not_be_an_extra_argument(name: str, extra: list[str]) -> None:
    with pytest.raises(ValidationError, match="is refused"):
        engine(name).spec(launch({"extra_args": extra}))


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("llamacpp", ["-m", "x"]),
        ("llamacpp", ["-hf", "x/y"]),
        ("llamacpp", ["--hf_repo", "x/y"]),
        ("llamacpp", ["-mu", "x"]),
        ("llamacpp", ["--path", "/"]),
        ("llamacpp", ["--log-file", "/x"]),
        ("llamacpp", ["--rpc", "h:1"]),
        ("llamacpp", ["--tools", "all"]),
        ("llamacpp", ["-ngl", "3"]),
        ("llamacpp", ["-c", "9"]),
        ("llamacpp", ["--n_gpu_layers", "3"]),
        ("vllm", ["--trust-rem"]),
        ("vllm", ["--trust_remote_code"]),
        ("vllm", ["--kv-transfer-config.kv_connector=x"]),
        ("vllm", ["--load-format=pt"]),
        ("vllm", ["--middleware=x"]),
        ("vllm", ["--tool-parser-plugin=/x.py"]),
        ("vllm", ["--worker-cl=x"]),
        ("vllm", ["--config=/x.yaml"]),
        ("vllm", ["-tp=4"]),
        ("vllm", ["-t=4"]),
        ("vllm", ["-qawq"]),
        ("vllm", ["--no-enforce-eag"]),
    ],
)
def test_an_engine_refuses_its_own_dangers(name: str, extra: list[str]) -> None:
    with pytest.raises(ValidationError, match="is refused"):
        engine(name).spec(launch({"extra_args": extra}))


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--keep", "a\nb"], "line break"),
        (["--keep", "a\0b"], "control character"),
        (["--keep", "@file"], "how the others are read"),
        (["--keep", "--"], "how the others are read"),
        (["/models/other.gguf"], "begin with a flag"),
        (["--keep", ""], "at least 1 character"),
        (["--keep", "x" * 5000], "at most 4096"),
        (["--keep"] * 65, "at most 64"),
    ],
)
@pytest.mark.parametrize("name", ENGINES)
def test_extra_arguments_that_confuse_a_parser_are_refused(name: str, extra: list[str], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        engine(name).spec(launch({"extra_args": extra}))


@pytest.mark.parametrize("name", ENGINES)
def test_harmless_extra_arguments_come_last_and_untouched(name: str) -> None:
    extra = ["--max-logprobs=5", "--verbose", "-0.5", "two words"]
    assert list(engine(name).spec(launch({"extra_args": extra})).argv[-4:]) == extra


def pieces(kind: Engine) -> st.SearchStrategy[list[str]]:
    """Extra arguments made to slip through: denied names, cut, respelled, with values, amid noise."""
    respelled = (
        st.sampled_from(denied(kind))
        .map(lambda flag: flag.rstrip("*"))
        .flatmap(
            lambda flag: st.sampled_from(
                [flag, "--" + flag.lstrip("-").replace("-", "_"), flag[:-1], flag + "=x", flag + ".y=x", flag + "x"]
            )
        )
    )
    return st.lists(st.one_of(respelled, st.sampled_from(["--keep", "--max-logprobs", "3"]), st.text(max_size=8)))


@pytest.mark.parametrize("name", ENGINES)
@given(data=st.data())
def test_argv_never_holds_a_denied_flag_whatever_the_extra_arguments_say(name: str, data: st.DataObject) -> None:
    kind = engine(name)
    extra = data.draw(pieces(kind))
    plain = kind.spec(launch(gpus=(GPU_A,))).argv
    try:
        argv = kind.spec(launch({"extra_args": extra}, gpus=(GPU_A,))).argv
    except ValidationError:
        return
    assert all(type(word) is str and word.isprintable() for word in argv)
    assert argv[: len(plain)] == plain
    for word in (word for word in argv[len(plain) :] if word.startswith("-")):
        name_of_word = word.split("=")[0].split(".")[0].replace("_", "-")
        for flag in denied(kind):
            assert name_of_word != flag
            assert not (flag.endswith("*") and name_of_word.startswith(flag[:-1]))
            assert not matches(word, flag, shortened=False)


@pytest.mark.parametrize(
    ("argument", "flag", "shortened", "met"),
    [
        ("--port", "--port", False, True),
        ("--port=1", "--port", False, True),
        ("--po", "--port", False, False),
        ("--po", "--port", True, True),
        ("--", "--port", True, False),
        ("-p", "--port", True, False),
        ("--portable", "--port", True, False),
        ("--ssl-anything", "--ssl*", False, True),
        ("--ss", "--ssl*", True, True),
        ("-m", "-m", False, True),
        ("-mg", "-m", False, False),
        ("-q4", "-q", True, True),
        ("-t", "-tp", True, True),
        ("-", "-tp", True, False),
    ],
)
def test_a_flag_is_known_however_it_is_spelled(argument: str, flag: str, shortened: bool, met: bool) -> None:
    assert matches(argument, flag, shortened=shortened) is met
