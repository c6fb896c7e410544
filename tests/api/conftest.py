"""A small file that is a model, clients of the cast, and a broker that is not there."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from rest_framework.test import APIClient

from cortex.access.models import Person
from cortex.orchestration import tasks
from tests.conftest import rest_client


@pytest.fixture(autouse=True)
def poked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The models that the loop was asked to look at."""
    ids: list[int] = []
    monkeypatch.setattr(tasks.settle_model, "apply_async", lambda args, **more: ids.extend(args))
    return ids


@pytest.fixture
def tiny(models_folder: Path) -> dict[str, Any]:
    """A definition whose file is there."""
    write_gguf(models_folder / "tiny.gguf")
    return {"name": "tiny", "engine": "llamacpp", "source": {"path": "tiny.gguf"}}


def write_gguf(path: Path) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_tensor("token_embd.weight", np.zeros((64, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def as_alice(alice: Person) -> APIClient:
    return rest_client(alice)


@pytest.fixture
def as_bob(bob: Person) -> APIClient:
    return rest_client(bob)


@pytest.fixture
def as_charlie(charlie: Person) -> APIClient:
    return rest_client(charlie)
