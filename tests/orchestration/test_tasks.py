"""What a worker does with a task that was not meant for its machine."""

import pytest

from cortex.celery import app
from cortex.orchestration import tasks
from cortex.orchestration.identity import NameTaken

pytestmark = pytest.mark.django_db


def test_a_worker_whose_name_is_anothers_leaves_the_queue(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*args: object) -> None:
        raise NameTaken("Two machines call themselves test.")

    ended: list[list[str]] = []
    monkeypatch.setattr(tasks, "sweep", refused)
    monkeypatch.setattr(app.control, "shutdown", lambda destination: ended.append(destination))
    tasks.sweep_host.apply(task_id="1")
    assert len(ended) == 1
    assert "Two machines call themselves test. This worker ends." in caplog.text
