from pathlib import Path
from typing import Any

import pytest

from cortex.runtime.contract import Label, SpecRefused
from cortex.runtime.payload import Json, creation, mountable
from engines.contract import ContainerSpec, Mount

GPUS = ("GPU-aaaa", "MIG-bbbb")


def body(tmp_path: Path, **changes: Any) -> Json:
    spec = ContainerSpec(**{"image": "engine:1", "argv": ("serve", "$(id)"), **changes})
    return creation(spec, {Label.MODEL: "m"}, models=tmp_path, bind="127.0.0.1")


def host(tmp_path: Path, **changes: Any) -> Json:
    found: Json = body(tmp_path, **changes)["HostConfig"]
    return found


def test_a_container_has_no_privileges_and_is_never_restarted(tmp_path: Path) -> None:
    made = host(tmp_path)
    assert made["RestartPolicy"] == {"Name": "no"}
    assert made["CapDrop"] == ["ALL"]
    assert made["SecurityOpt"] == ["no-new-privileges"]
    assert (made["Init"], made["Privileged"], made["AutoRemove"]) == (True, False, False)
    assert made["IpcMode"] == "private"
    assert made["PidsLimit"] == 16_384
    assert "Binds" not in made
    assert not {"CapAdd", "Devices", "PidMode", "NetworkMode", "VolumesFrom"} & made.keys()


def test_logs_are_rotated(tmp_path: Path) -> None:
    assert host(tmp_path)["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}


def test_arguments_are_lists_that_no_shell_sees(tmp_path: Path) -> None:
    made = body(tmp_path, entrypoint=("engine",))
    assert made["Cmd"] == ["serve", "$(id)"]
    assert made["Entrypoint"] == ["engine"]
    assert "Entrypoint" not in body(tmp_path)


def test_the_port_is_published_on_the_given_address_and_chosen_by_docker(tmp_path: Path) -> None:
    assert host(tmp_path, port=8080)["PortBindings"] == {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}
    assert body(tmp_path, port=8080)["ExposedPorts"] == {"8080/tcp": {}}


def test_gpus_are_asked_for_by_uuid_alone(tmp_path: Path) -> None:
    (request,) = host(tmp_path, gpus=GPUS)["DeviceRequests"]
    assert request["DeviceIDs"] == list(GPUS)
    assert request["Count"] == 0
    assert request["Capabilities"] == [["gpu"]]
    assert body(tmp_path, gpus=GPUS)["Env"] == []


def test_without_gpus_an_image_that_wants_all_gets_none(tmp_path: Path) -> None:
    assert host(tmp_path)["DeviceRequests"] == []
    assert body(tmp_path, env={"A": "b"})["Env"] == ["A=b", "NVIDIA_VISIBLE_DEVICES=void"]


def test_gpus_cannot_be_had_by_the_back_door(tmp_path: Path) -> None:
    with pytest.raises(SpecRefused, match="NVIDIA_VISIBLE_DEVICES"):
        body(tmp_path, env={"NVIDIA_VISIBLE_DEVICES": "all"})


def test_memory_is_a_limit_without_swap_and_only_when_given(tmp_path: Path) -> None:
    made = host(tmp_path, memory=1000, shm=500)
    assert (made["Memory"], made["MemorySwap"], made["ShmSize"]) == (1000, 1000, 500)
    assert not {"Memory", "MemorySwap", "ShmSize"} & host(tmp_path).keys()


def test_programs_may_run_what_they_compile_in_tmp(tmp_path: Path) -> None:
    (options,) = host(tmp_path, tmpfs=("/tmp",))["Tmpfs"].values()
    assert "exec" in options.split(",")
    assert "nosuid" in options.split(",")


def test_mounts_are_binds_that_never_make_folders(tmp_path: Path) -> None:
    (mount,) = host(tmp_path, mounts=(Mount(source=str(tmp_path), target="/models"),))["Mounts"]
    assert mount == {"Type": "bind", "Source": str(tmp_path), "Target": "/models", "ReadOnly": True}


def test_what_lies_in_the_models_folder_may_be_mounted_by_its_real_path(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert mountable(f"{tmp_path}/link/../a", tmp_path) == str(tmp_path / "a")


@pytest.mark.parametrize("source", ["..", "../models-of-others", "escape", "escape/passwd"])
def test_what_lies_outside_the_models_folder_may_not(tmp_path: Path, source: str) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (tmp_path / "models-of-others").mkdir()
    (models / "escape").symlink_to("/etc")
    with pytest.raises(SpecRefused, match="outside") as caught:
        mountable(f"{models}/{source}", models)
    assert caught.value.permanent
