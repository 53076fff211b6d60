"""`main.py world`: a report of every split, and networks under the same splits and controls in `eval`."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import cv2
import pytest

import main
from datasets.synthetic.baselines import BASELINES
from datasets.synthetic.scenes import SPLITS
from util.report import ROOT

SMALL = ["--videos", "2", "--size", "48x80"]


def results_in(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def evaluated(folder: Path, *words: str) -> dict[str, Any]:
    assert main.main(["eval", *SMALL, "--frames", "6", *words, "--out", str(folder), "--processes", "1"]) == 0
    return results_in(folder)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    words = ["world", "--out", str(folder), *SMALL, "--processes", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [str(ROOT / "main.py"), *words])
        assert main.main(words) == 0
    return folder


def test_the_report_has_every_split_with_its_sheet(report: Path) -> None:
    found = json.loads((report / "world.json").read_text())
    assert set(found["splits"]) == set(SPLITS)
    assert found["command"] == shlex.join(
        ["python", "main.py", "world", "--out", str(report), *SMALL, "--processes", "1"]
    )
    for split, by_control in found["splits"].items():
        assert cv2.imread(str(report / f"{split}.png")) is not None
        plain = by_control["none"]
        assert plain["sentences"] == sum(plain["families"].values()) > 0
        assert set(plain["all"]) == set(BASELINES) - {"same-answer"}
        for scores in plain["all"].values():
            assert 0 <= scores["J&F"] <= scores["lucky"] + 1e-4 <= 1.0001
            assert scores["J&F"] == pytest.approx((scores["J"] + scores["F"]) / 2, abs=2e-4)


def test_one_frame_answers_easy_sentences_and_no_others(report: Path) -> None:
    splits = json.loads((report / "world.json").read_text())["splits"]
    easy = splits["easy"]
    assert easy["none"]["need time"] == easy["reversed"]["sentences"] == easy["pairs"]["sentences"] == 0
    assert easy["none"]["all"]["single-frame"]["J&F"] > 0.99
    assert splits["twins"]["none"]["where time is needed"]["single-frame"]["J&F"] < 0.9


def test_eval_scores_a_split_and_its_controls(tmp_path: Path) -> None:
    plain = evaluated(tmp_path / "plain", "--baseline", "static-track", "--world", "twins")
    shuffled = evaluated(
        tmp_path / "shuffled", "--baseline", "static-track", "--world", "twins", "--control", "shuffled"
    )
    assert (plain["split"], plain["control"], shuffled["control"]) == ("twins", None, "shuffled")
    assert plain["summary"]["J&F"] == pytest.approx(shuffled["summary"]["J&F"], abs=1e-9)
    easy = evaluated(tmp_path / "easy", "--baseline", "single-frame", "--world", "easy", "--hard")
    assert easy["summary"]["J&F"] > 0.9 and easy["hard"]
    pairs = evaluated(tmp_path / "pairs", "--baseline", "random", "--world", "twins", "--control", "pairs")
    assert pairs["summary"]["videos"] % 2 == 0


@pytest.mark.parametrize(
    "words", [["--world", "twins"], ["--control", "pairs"], ["--hard"], ["--baseline", "single-frame"]]
)
def test_splits_are_of_the_synthetic_world_only(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    answer = [] if "--baseline" in words else ["--baseline", "random"]
    assert main.main(["eval", *answer, *words, "--data", "mevis", "--root", "x", "--split", "valid"]) == 2
    assert "synthetic world; leave them out for mevis" in capsys.readouterr().err
