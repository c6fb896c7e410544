from datetime import UTC, datetime

import pytest

from cortex.runtime import answers
from cortex.runtime.contract import (
    DiskFull,
    Effort,
    Event,
    ImageMissing,
    ImageRefused,
    NameTaken,
    NoGpuRuntime,
    NotFound,
    PullProgress,
    RuntimeFault,
    SpecRefused,
    State,
    Unreachable,
)


def inspected(**state: object) -> dict[str, object]:
    life = {"Status": "running", "ExitCode": 0, "OOMKilled": False, "Error": "", **state}
    ports = {"8000/tcp": [{"HostIp": "0.0.0.0", "HostPort": "32768"}], "9/tcp": None}
    return {
        "Id": "abc",
        "Name": "/x",
        "Created": "2026-11-21T02:36:48.253086123Z",
        "State": {**life, "StartedAt": "0001-01-01T00:00:00Z"},
        "Config": {"Image": "engine:1", "Labels": None},
        "HostConfig": {"DeviceRequests": None},
        "NetworkSettings": {"Ports": ports},
    }


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("created", State.CREATED),
        ("running", State.RUNNING),
        ("restarting", State.RUNNING),
        ("paused", State.PAUSED),
        ("exited", State.EXITED),
        ("dead", State.EXITED),
        ("removing", State.EXITED),
    ],
)
def test_each_status_of_docker_has_its_state(status: str, state: State) -> None:
    found = answers.container(inspected(Status=status))
    assert found.state is state
    assert (found.address is not None) == (state in (State.RUNNING, State.PAUSED))


def test_an_address_for_everybody_is_reached_on_loopback() -> None:
    assert answers.container(inspected()).address == "127.0.0.1:32768"


@pytest.mark.parametrize(
    ("host", "networks", "altered"),
    [
        ({"RestartPolicy": {"Name": "no"}, "NanoCpus": 0, "CpusetCpus": ""}, ["bridge"], ""),
        ({"RestartPolicy": {"Name": ""}}, [], ""),
        ({"RestartPolicy": {"Name": "always"}}, ["bridge"], "it restarts by itself"),
        ({"NanoCpus": 500_000_000}, ["bridge"], "its processors are limited"),
        ({"CpusetCpus": "0-1"}, ["bridge", "other"], "its processors are limited, it is in 2 networks"),
    ],
)
def test_what_somebody_changed_of_a_container_is_named(
    host: dict[str, object], networks: list[str], altered: str
) -> None:
    found = inspected() | {"HostConfig": host, "NetworkSettings": {"Networks": {name: {} for name in networks}}}
    assert answers.container(found).altered == altered


def test_times_are_read_to_the_microsecond_and_year_one_is_never() -> None:
    found = answers.container(inspected())
    assert found.created_at == datetime(2026, 11, 21, 2, 36, 48, 253086, tzinfo=UTC)
    assert found.started_at is None
    assert found.finished_at is None


@pytest.mark.parametrize(
    ("stats", "effort"),
    [
        (
            {
                "blkio_stats": {"io_service_bytes_recursive": [
                    {"major": 8, "minor": 0, "op": "Read", "value": 100},
                    {"major": 8, "minor": 0, "op": "Write", "value": 7},
                    {"major": 9, "minor": 0, "op": "Read", "value": 20},
                    {"major": 9, "minor": 0, "op": "Total", "value": 27},
                ]},
                "memory_stats": {"usage": 5, "stats": {"cache": 1}},
            },
            Effort(read=120, memory=5),
        ),
        (
            {
                "blkio_stats": {
                    "io_service_bytes_recursive": [{"op": "read", "value": 3}, {"op": "write", "value": 4}]
                },
                "memory_stats": {"usage": 6},
            },
            Effort(read=3, memory=6),
        ),
        ({"blkio_stats": {"io_service_bytes_recursive": None}, "memory_stats": {}}, Effort()),
        ({}, Effort()),
    ],
    ids=["cgroups 1", "cgroups 2", "not running", "not counted"],
)  # fmt: skip
def test_effort_is_read_from_either_version_of_cgroups(stats: dict[str, object], effort: Effort) -> None:
    assert answers.effort(stats) == effort


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-01T00:00:01.000000001Z", 1_000_000_001),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("1970-01-01T00:00:01Z", 1_000_000_000),
        ("1970-01-01T01:00:01+01:00", 1_000_000_000),
    ],
)
def test_stamps_keep_nanoseconds(text: str, nanoseconds: int) -> None:
    assert answers.nanoseconds(text) == nanoseconds


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"plain\n", "plain"),
        (b"\x1b[31mred\x1b[0m\n", "red"),
        (b"\x1b]0;title\x07shown\n", "shown"),
        (b"bad \xff byte\n", "bad \ufffd byte"),
        (b"10%\r100%\r\n", "100%"),
        (b"null\x00bell\x07tab\there\n", "nullbelltab\there"),
        ("evil \u202etxt\n".encode(), "evil txt"),
        (b"\n", ""),
    ],
)
def test_a_log_line_is_plain_text_whatever_was_printed(raw: bytes, text: str) -> None:
    line = answers.log_line(b"2026-11-21T00:00:00.000000001Z " + raw)
    assert line is not None
    assert line.text == text


def test_a_log_line_is_at_most_4_kib_of_whole_characters() -> None:
    line = answers.log_line(b"2026-11-21T00:00:00Z " + "é".encode() * 9000)
    assert line is not None
    assert line.text == "é" * 2048


def test_what_is_not_a_log_line_is_none() -> None:
    assert answers.log_line(b"garbage") is None
    assert answers.log_line(b"") is None


def test_an_event_that_cannot_be_read_is_none() -> None:
    assert answers.event(b'{"Action": "die", "Actor": {"Attributes": {"name": "x"}}}') == Event("die", "x")
    for line in (b"{", b"{}", b"[]", b'{"Action": "die", "Actor": null}'):
        assert answers.event(line) is None


def test_pull_progress_never_goes_backwards() -> None:
    layers = answers.Layers()
    seen = []
    for layer, status, current in [
        ("a", "Downloading", 50),
        ("b", "Downloading", 10),
        ("a", "Downloading", 20),
        ("a", "Download complete", None),
        ("a", "Extracting", 5),
        ("b", "Downloading", 100),
        ("b", "Pull complete", None),
        ("c", "Already exists", None),
    ]:
        detail = {} if current is None else {"current": current, "total": 100}
        if layers.heard({"id": layer, "status": status, "progressDetail": detail}):
            seen.append(layers.progress())
    assert [progress.done for progress in seen] == [50, 60, 60, 110, 200, 200]
    assert seen[-1] == PullProgress(200, 200)


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (409, 'Conflict. The container name "/x" is already in use by container "abc".', NameTaken),
        (404, "No such image: engine:1", ImageMissing),
        (404, "No such container: abc", NotFound),
        (400, 'invalid mount config for type "bind": bind source path does not exist: /x', SpecRefused),
        (500, "OCI runtime create failed: exec format error", SpecRefused),
        (500, 'could not select device driver "nvidia" with capabilities: [[gpu]]', NoGpuRuntime),
        (500, "OCI runtime create failed: nvidia-container-cli: initialization error: nvml error", NoGpuRuntime),
        (500, "write /var/lib/docker/x: no space left on device", DiskFull),
        (500, "something else", RuntimeFault),
        (409, "cannot start a paused container", RuntimeFault),
    ],
)
def test_each_refusal_of_docker_has_its_fault(status: int, message: str, kind: type[RuntimeFault]) -> None:
    fault = answers.fault(status, message)
    assert type(fault) is kind
    assert not fault.unknown
    assert message.rstrip(".") in str(fault)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("pull access denied for x, repository does not exist or may require 'docker login'", ImageRefused),
        ("manifest for x:9 not found: manifest unknown: manifest unknown", ImageRefused),
        ("unauthorized: authentication required", ImageRefused),
        ("dial tcp: lookup registry on 127.0.0.53:53: no such host", Unreachable),
        ("net/http: TLS handshake timeout", Unreachable),
        ("toomanyrequests: You have reached your pull rate limit", Unreachable),
        ("failed to register layer: no space left on device", DiskFull),
    ],
)
def test_each_failed_pull_has_its_fault(message: str, kind: type[RuntimeFault]) -> None:
    fault = answers.pull_fault("x:9", message)
    assert type(fault) is kind
    assert "x:9" in str(fault)
    assert fault.remedy


@pytest.mark.parametrize(
    ("newest", "oldest", "spoken"), [("1.41", "1.12", "1.41"), ("1.52", "1.40", "1.45"), ("1.45", "1.24", "1.45")]
)
def test_the_newest_api_that_both_know_is_spoken(newest: str, oldest: str, spoken: str) -> None:
    assert answers.api_version({"ApiVersion": newest, "MinAPIVersion": oldest}) == spoken


@pytest.mark.parametrize(("newest", "oldest"), [("1.39", "1.12"), ("1.60", "1.46")])
def test_an_engine_too_old_or_too_new_is_refused_in_words(newest: str, oldest: str) -> None:
    with pytest.raises(RuntimeFault, match=r"1\.40 to 1\.45"):
        answers.api_version({"ApiVersion": newest, "MinAPIVersion": oldest, "Version": "x"})
