"""util/logging.py and util/interrupt.py: the log of a resumed run, the progress line, and signals as flags."""

from __future__ import annotations

import io
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from util.interrupt import Interrupt
from util.logging import Progress, RunLog, duration


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_events_are_json_lines_even_when_a_number_is_not_finite(tmp_path: Path) -> None:
    log = RunLog(tmp_path, stream=io.StringIO())
    log.open()
    log.event("train", 3, loss=1.5, worst=float("nan"), note="x")
    log.close()
    assert lines(tmp_path) == [{"event": "train", "step": 3, "loss": 1.5, "worst": "nan", "note": "x"}]
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_resumed_log_forgets_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    log = RunLog(tmp_path, stream=io.StringIO())
    log.open()
    for step in (1, 2, 3):
        log.event("train", step, loss=float(step))
    log.close()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"event": "train", "st')
    resumed = RunLog(tmp_path, stream=io.StringIO())
    resumed.open(after=2)
    resumed.event("train", 3, loss=30.0)
    resumed.close()
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [(1, 1.0), (2, 2.0), (3, 30.0)]


def test_other_ranks_are_silent(tmp_path: Path) -> None:
    stream = io.StringIO()
    log = RunLog(tmp_path / "run", enabled=False, stream=stream)
    log.open()
    log.event("train", 1, loss=1.0)
    log.say("hello")
    log.close()
    assert not (tmp_path / "run").exists() and not stream.getvalue()


def test_progress_names_the_share_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 5.0, 100.0, 110.0])
    monkeypatch.setattr("util.logging.time.monotonic", lambda: next(clock))
    progress = Progress(0, 40)
    assert progress.at(10) == "step 10/40 (25.0 %)  0.50 s/step  ETA 0:00:15"
    progress.pause()
    assert progress.at(20) == "step 20/40 (50.0 %)  0.65 s/step  ETA 0:00:13"
    assert duration(3661) == "1:01:01"


@pytest.fixture
def _python_handles_ctrl_c() -> Iterator[None]:
    """Its usual handler, whatever started the tests: a shell's background job ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_python_handles_ctrl_c")
def test_the_first_signal_is_remembered_and_the_second_acts() -> None:
    with Interrupt() as interrupt:
        signal.raise_signal(signal.SIGINT)
        assert interrupt.signal is signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
