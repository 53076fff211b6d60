"""The grid of experiments: what trainings and results are known by, and a small one run, killed, resumed, reported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import main
from datasets.synthetic.scenes import SPLITS
from engine import TrainConfig
from models.inference import InferenceConfig
from scripts.evidence import sitting
from scripts.evidence.grid import Grid
from scripts.evidence.results import Results
from scripts.evidence.rows import HARD, QUESTIONS, ROWS, TRAININGS
from scripts.evidence.sitting import Sitting
from scripts.evidence.training import TrainingRun, train, training_run
from tests.micro_run import micro_dict
from util.config import from_dict, to_dict
from util.errors import InputError
from util.report import ROOT


def base_config(folder: Path, inference: dict[str, Any] | None = None, **changes: Any) -> Path:
    config = micro_dict(folder / "unused", **{"steps": 6, **changes})
    config["data"]["sources"][0]["synthetic"] |= {"split": "mixed", "videos": 4}
    config["validation"] = {"inference": {"window": 3, "short_side": 32, "max_side": 48} | (inference or {})}
    path = folder / "base.yaml"
    path.write_text(json.dumps(config))
    return path


def grid(folder: Path, inference: dict[str, Any] | None = None, **changes: Any) -> Grid:
    return Grid(
        base_config(folder, inference, **changes), folder / "out", Results(folder / "evidence" / "results"), videos=1
    )


# ---- the grid


def test_rows_and_trainings_belong_together(tmp_path: Path) -> None:
    assert {row.training for row in ROWS.values()} == set(TRAININGS)
    assert {name for rows in QUESTIONS.values() for name in rows} == set(ROWS)
    assert set(HARD) < set(SPLITS)
    of = grid(tmp_path)
    for row in ROWS.values():
        from_dict(InferenceConfig, of.asked(row))
    asked = [(row.training, of.answer_key(row)) for row in ROWS.values()]
    assert len(set(asked)) == len(asked), "two rows are the same experiment"


@pytest.mark.parametrize("name", TRAININGS)
def test_every_training_is_a_config_that_differs_where_it_says(name: str, tmp_path: Path) -> None:
    base = Path("configs/ablation.yaml")
    run = training_run(name, 0, base, tmp_path)
    config = from_dict(TrainConfig, run.config)
    plain = from_dict(TrainConfig, training_run("forced", 0, base, tmp_path).config)
    assert (config.seed, config.steps) == (0, plain.steps)
    assert (to_dict(config) == to_dict(plain) | {"output_dir": str(config.output_dir)}) == (name == "forced")


def test_a_training_is_known_by_what_is_trained(tmp_path: Path) -> None:
    def key(name: str = "forced", seed: int = 0, **changes: Any) -> str:
        return training_run(name, seed, base_config(tmp_path, **changes), tmp_path / str(seed)).key

    assert key() == key(seed=1) == key(checkpoint_every=7, device="auto", log_every=9) == key(inference={"keys": 2})
    assert len({key(), key("teacher"), key(batch=4), key(optim={"lr": 2e-3})}) == 4


def test_a_choice_among_tracks_comes_after_its_network_and_clip_mode_does_without(tmp_path: Path) -> None:
    """Settings of the choice make another choice, not another network; each has its folder."""
    plain = grid(tmp_path).training(ROWS["unforced"], 0)
    assert plain.network is None and "choice" not in plain.config
    chosen, other = (grid(tmp_path, choice={"steps": steps}).training(ROWS["unforced"], 0) for steps in (3, 4))
    assert chosen.network is not None and other.network is not None
    assert chosen.network == other.network == grid(tmp_path, choice={"steps": 3}).training(ROWS["clip"], 0) == plain
    assert len({chosen.key, other.key, plain.key}) == len({chosen.folder, other.folder, plain.folder}) == 3
    assert chosen.output == plain.output == plain.folder and chosen.config["choice"]["folder"] == str(chosen.folder)


def test_seeds_train_apart_and_on_other_clips(tmp_path: Path) -> None:
    one, other = (training_run("forced", seed, base_config(tmp_path), tmp_path) for seed in (0, 1))
    assert one.folder != other.folder
    assert one.config["seed"] != other.config["seed"] and one.config["data"]["seed"] != other.config["data"]["seed"]


def test_what_is_missing_shares_trainings_and_begins_with_the_first_seed(tmp_path: Path) -> None:
    works = grid(tmp_path).missing([], None)
    assert [work.training.seed for work in works] == sorted(work.training.seed for work in works)
    assert sum(work.training.seed == 0 for work in works) == len(
        TRAININGS
    )  # without a choice, clip mode's are the same
    assert sum(len(work.rows) for work in works) == sum(row.seeds for row in ROWS.values())
    (only,) = grid(tmp_path).missing(["clip", "unforced"], [4])
    assert list(only.rows) == ["clip", "unforced"] and only.training.seed == 4


def test_trainings_share_the_stage_before_the_encoder_where_nothing_before_it_differs(tmp_path: Path) -> None:
    def stages(base: Path) -> dict[str, Path]:
        return {name: training_run(name, 0, base, tmp_path).grounding for name in TRAININGS}

    base = ROOT / "configs" / "ablation.yaml"
    found = stages(base)
    timeless = {found.pop("timeless"), found.pop("unforced-timeless")}
    assert len(timeless) == len(set(found.values())) == 1 and not timeless & set(found.values())
    assert training_run("forced", 1, base, tmp_path).grounding != found["forced"]
    text = base.read_text()
    for line, other, shared in (
        ("  presence: true", "  presence: false", True),
        ("    eventful: 0.5", "    eventful: 0.1", True),
        ("ce: 5.0", "ce: 4.0", True),
        ("grounding: 10.0", "grounding: 9.0", False),
        ("  space_time: true", "  space_time: false", False),
        ("  lr: 1e-3", "  lr: 2e-3", False),
    ):
        assert text.count(line) == 1
        changed = tmp_path / "changed.yaml"
        changed.write_text(text.replace(line, other))
        assert (stages(changed)["forced"] == found["forced"]) is shared, line


def test_a_result_of_other_settings_is_out_of_date(tmp_path: Path) -> None:
    before = grid(tmp_path)
    run = before.training(ROWS["forced"], 0)
    before.results.write("forced", 0, {"key": before.key(ROWS["forced"], run)})
    assert before.state("forced", ROWS["forced"], run) == "done" and not before.missing(["forced"], [0])
    for changed in (
        Grid(before.base, before.out, before.results, videos=2),
        grid(tmp_path, batch=4),
        grid(tmp_path, {"keys": 2}),
    ):
        assert changed.state("forced", ROWS["forced"], changed.training(ROWS["forced"], 0)) == "out of date"
        assert changed.missing(["forced"], [0])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["list", "nothing"], "no row is called nothing"),
        (["list", "--videos", "0"], "at least 1"),
        (["run", "--minutes", "0"], "above 0"),
        (["list", "--config", "configs/a2d_video_swin_t.yaml"], "not the synthetic world"),
        (["report"], "no finished run"),
    ],
)
def test_bad_options_say_what_to_do(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["experiments", *words, "--results", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err


# ---- working it off


def in_this_process(run: TrainingRun, **_: Any) -> bool:
    """`train` without the seconds that another Python needs to start."""
    import engine

    if run.network is not None:
        in_this_process(run.network)
    if not run.finished:
        engine.train(from_dict(TrainConfig, run.config | {"device": "cpu"}))
        (run.folder / "finished.json").write_text('{"seconds": 1, "processes": 1}')
    return True


def work_off(of: Grid, names: list[str], deadline: float = float("inf")) -> bool:
    return Sitting(of, 1, torch.device("cpu"), deadline).work_off(of.missing(names, [0]))


def test_rows_are_asked_once_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sitting, "train", in_this_process)
    micro = micro_dict(tmp_path)
    clip = micro["data"]["clip"] | {"frames": 2, "expressions": 2}
    choice = {"steps": 2, "batch": 2, "micro_batch": 2, "clip": clip}
    of = grid(tmp_path, {"keys": 2}, model=micro["model"] | {"grounding": True}, choice=choice)
    names = ["forced", "forced-clip", "key-best", "true-key", "reversed"]
    assert work_off(of, names)
    results = of.results.read()
    assert set(results) == set(names) and set(results["forced"][0]["splits"]) == set(SPLITS)
    assert "easy" not in results["reversed"][0]["splits"]  # nothing there means another thing backwards
    assert results["forced"][0]["training"]["steps"] == 6 and results["forced"][0]["curve"]["training"][-1][0] == 6
    assert results["forced"][0]["splits"]["long"]["videos"] == 1
    forced, clip_mode = (results[name][0]["training"] for name in ("forced", "forced-clip"))
    assert forced["choice"]["steps"] == 2 and clip_mode["choice"] is None and forced["key"] == clip_mode["key"]
    assert results["true-key"][0]["splits"]["easy"]["distance"]["all"][0][1] == 1  # the key's mask is the true one
    kept = {name: of.results.path(name, 0).read_text() for name in names}

    assert work_off(of, names) and not of.missing(names, [0])  # nothing is left to do
    of.results.path("forced", 0).unlink()
    pattern = f"answers/{of.answer_key(ROWS['forced'])}-*-swap.json"
    next(of.training(ROWS["forced"], 0).folder.glob(pattern)).unlink()
    capsys.readouterr()
    assert work_off(of, names)
    shown = capsys.readouterr().out
    assert "swap, held-out: 1 videos" in shown and "easy" not in shown
    again = of.results.read()
    assert again["forced"][0]["splits"] == results["forced"][0]["splits"]
    assert all(of.results.path(name, 0).read_text() == kept[name] for name in ("key-best", "true-key"))
    reported(tmp_path, of.results)


def reported(folder: Path, results: Results) -> None:
    """The document's own words stay, tables come between the markers, and a second time changes nothing."""
    pytest.importorskip("matplotlib")
    document = folder / "evidence.md"
    words = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
    document.write_text(words, encoding="utf-8")
    assert main.main(["experiments", "report", "--results", str(results.folder), "--document", str(document)]) == 0
    text = document.read_text(encoding="utf-8")
    assert "2 in 0 minutes" in text and "not to be compared" not in text
    assert "| true-key" in text and "Not run yet: clip" in text and "| single-frame" in text
    assert (folder / "evidence" / "distance.png").stat().st_size > 1000
    assert main.main(["experiments", "report", "--results", str(results.folder), "--document", str(document)]) == 0
    assert document.read_text(encoding="utf-8") == text
    document.write_text("<!-- begin nothing -->\n<!-- end nothing -->\n")
    assert main.main(["experiments", "report", "--results", str(results.folder), "--document", str(document)]) == 2


def test_no_time_left_starts_nothing(tmp_path: Path) -> None:
    of = grid(tmp_path)
    of.results.write_bounds({"key": of.bounds_key, "J&F": {}})
    assert not work_off(of, ["forced"], deadline=time.monotonic())
    assert not of.out.exists()


def test_a_training_that_fails_says_where(tmp_path: Path) -> None:
    run = training_run("forced", 0, base_config(tmp_path, batch=3), tmp_path / "out")
    run.config["data"]["sources"] = [{"kind": "mevis", "root": str(tmp_path)}]
    with pytest.raises(InputError, match="stopped with status 2"):
        train(run, processes=1, device="cpu", deadline=float("inf"), say=print)


@pytest.mark.slow
def test_a_killed_sitting_goes_on_and_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    """SIGKILL of everything in the middle of the training, then the same command to the end."""
    changes = {"checkpoint_every": 2}
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        base_config(folder, **changes)

    def command(folder: Path) -> list[str]:
        words = ["run", "forced", "no-search", "--seeds", "0", "--videos", "1", "--processes", "1", "--device", "cpu"]
        places = ["--config", "base.yaml", "--out", "out", "--results", "results"]
        return [sys.executable, str(ROOT / "main.py"), "experiments", *words, *(
            str(folder / word) if word in ("base.yaml", "out", "results") else word for word in places)]  # fmt: skip

    killed = subprocess.Popen(command(one), cwd=ROOT, start_new_session=True)
    while not list(one.glob("out/*/seed0/step_*")) and killed.poll() is None:
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not list(one.glob("out/*/seed0/finished.json"))
    for folder in (one, other):
        subprocess.run(command(folder), cwd=ROOT, check=True, timeout=600)
    first, second = (Results(folder / "results").read() for folder in (one, other))
    assert first["forced"][0]["splits"] == second["forced"][0]["splits"]
    assert first["no-search"][0]["splits"] == second["no-search"][0]["splits"]
    assert first["forced"][0]["curve"] == second["forced"][0]["curve"]


@pytest.mark.slow
def test_a_training_is_stopped_in_time_saved_and_never_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = training_run("forced", 0, base_config(tmp_path, steps=100_000, checkpoint_every=2), tmp_path / "out")

    def clock() -> float:
        """The time is over as soon as the training has begun, however long that takes."""
        return float(any(run.folder.glob("step_*")))

    monkeypatch.setattr("scripts.evidence.training.time.monotonic", clock)
    assert not train(run, processes=1, device="cpu", deadline=0.5, say=print)
    assert not run.finished and (run.folder / "clock.json").is_file()
    saved = [json.loads(line)["step"] for line in (run.folder / "log.jsonl").read_text().splitlines()][-1]
    assert (run.folder / f"step_{saved:07d}").is_dir()  # every step that was taken is kept
    holder = "import fcntl, sys, time; held = open(sys.argv[1], 'w'); fcntl.flock(held, fcntl.LOCK_EX)"
    words = [sys.executable, "-c", holder + "; print(flush=True); time.sleep(600)", str(run.folder / "lock")]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None and other.stdout.readline()
            with pytest.raises(InputError, match="running in"):
                train(run, processes=1, device="cpu", deadline=0.5, say=print)
        finally:
            other.kill()
