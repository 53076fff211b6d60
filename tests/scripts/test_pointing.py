"""The experiment on movements: what counts as right, what chance is, and that a variant trains and is asked."""

from __future__ import annotations

import json

import pytest

from scripts.evidence import movements, pointing
from scripts.evidence.pointing import Asked, Schedule, by_family, judge, learning_curve
from scripts.evidence.results import Results
from tests.micro_run import micro_config, one_thread
from util.errors import InputError
from util.types import Expression

__all__ = ["one_thread"]


@pytest.mark.parametrize(
    ("shares", "wanted", "right", "chance"),
    [
        ([0.1, 0.9, 0.2], (5,), True, 1 / 3),
        ([0.95, 0.9, 0.2], (5,), False, 1 / 3),
        ([0.8, 0.9, 0.2], (5, 3), True, 1 / 3),
        ([0.8, 0.1, 0.2], (5, 3), False, 1 / 3),
        ([0.8, 0.1, 0.2], (3, 5, 8), True, 1.0),
    ],
)
def test_right_is_pointing_most_at_exactly_the_referents(shares, wanted, right, chance):
    asked = judge(shares, (3, 5, 8), Expression("0", "it", wanted, "motion"))
    assert (asked.family, asked.right) == ("motion", right)
    assert asked.chance == pytest.approx(chance)


def test_families_are_counted_apart():
    asked = [Asked("motion", True, 0.5), Asked("motion", False, 0.5), Asked("order", True, 0.25)]
    assert by_family(asked) == {
        "motion": {"accuracy": 0.5, "chance": 0.5, "sentences": 2},
        "order": {"accuracy": 1.0, "chance": 0.25, "sentences": 1},
    }


@pytest.mark.parametrize("variant", ["frames", "both"])
def test_a_variant_trains_and_is_asked(tmp_path, variant):
    lines = []
    schedule = Schedule(steps=2, every=1, batch=2, frames=3, videos=3)
    found = learning_curve(micro_config(tmp_path), variant, schedule, tmp_path, lines.append)
    assert [point["step"] for point in found["curve"]] == [1, 2]
    assert found["chance"] == 0.5
    assert len(lines) == 2
    json.dumps(found)


def test_a_finished_variant_is_not_trained_again(tmp_path, monkeypatch, capsys):
    calls = []

    def pretended(config, variant, schedule, folder, say):
        calls.append(variant)
        return {"variant": variant, "seed": config.seed, "schedule": vars(schedule)}

    monkeypatch.setattr(movements, "learning_curve", pretended)
    config = tmp_path / "c.yaml"
    config.write_text("steps: 1")
    results = Results(tmp_path / "results")
    movements.curves(config, ["motion"], 3, results, tmp_path)
    movements.curves(config, [], 3, results, tmp_path)
    assert calls == ["motion", *(name for name in pointing.VARIANTS if name != "motion")]
    assert "motion: done" in capsys.readouterr().out
    movements.curves(config, ["motion"], 4, results, tmp_path)  # another length is another experiment
    assert calls[-1] == "motion"
    assert set(results.read_movements()) == set(pointing.VARIANTS)
    assert results.read() == {}
    with pytest.raises(InputError, match="there are frames"):
        movements.curves(config, ["nothing"], 3, results, tmp_path)
