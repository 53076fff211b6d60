"""One training of the grid: its config, its folder, and `main.py train` as a process that may be stopped in time."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.evidence.rows import TRAININGS
from util.config import from_dict, read_config
from util.errors import InputError
from util.report import ROOT, write_json

# Keys that say where and how often something is written or on what it runs, and not what is trained.
_INCIDENTAL = ("output_dir", "device", "resume", "log_every", "checkpoint_every", "keep_checkpoints", "seed")
_LATER = ("steps", "batch", "micro_batch", "ema_decay", "tracking", "validation")  # than the first stage
# Parts of the network behind the encoder, where the grounding stage ends.
_BEHIND = ("tracking", "presence", "time", "matching", "pointed")
_CURVE_POINTS = 60
_CLOCK_EVERY = 5.0  # seconds


@dataclass(frozen=True)
class TrainingRun:
    """A training of the grid with a seed; `config` is what `main.py train` is given.

    network: the run that trains the network, where this one is the stage after it, the choice among its tracks.
    """

    name: str
    seed: int
    config: dict[str, Any]
    key: str
    folder: Path
    network: TrainingRun | None = None

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def output(self) -> Path:
        """The `--output-dir` of `main.py train`."""
        return (self.network or self).folder

    @property
    def grounding(self) -> Path:
        """Folder of the stage before the encoder, which other trainings may share."""
        folder = (self.config.get("grounding") or {}).get("folder")
        return Path(folder) if folder else self.output / "grounding"

    @property
    def finished(self) -> bool:
        return (self.folder / "finished.json").is_file()


def training_run(name: str, seed: int, base: Path, out: Path, *, chooses: bool = True) -> TrainingRun:
    """The training `name` of the grid on the config file `base`. Raises InputError when that is not a config.

    The key is a hash of what the file and the changes say of training, seeds left out: it stays when a new option is
    added to the code whose default does as before, and changes with everything that is written down. Trainings of one
    seed that differ only behind the encoder share their grounding stage. The choice among tracks, where the file has
    one, has a folder of its own in that of its network, which does without it unless it `chooses`.
    """
    changes = TRAININGS[name].changes
    said = read_config(base, changes)
    choice = said.pop("choice", None)
    key = hash_of({name: value for name, value in _without_inference(said).items() if name not in _INCIDENTAL})
    folder = out / f"{name}-{key}" / f"seed{seed}"
    config = said | {"seed": seed, "output_dir": str(folder), "data": said.get("data", {}) | {"seed": 1000 + seed}}
    if said.get("grounding"):
        stage = hash_of(_first_stage(said))
        config["grounding"] = said["grounding"] | {"folder": str(out / f"grounding-{stage}" / f"seed{seed}")}
    network = TrainingRun(name, seed, config, key, folder)
    if not (choice and chooses):
        return network
    last = hash_of(choice)
    place = folder / f"choice-{last}"
    return TrainingRun(
        name, seed, config | {"choice": choice | {"folder": str(place)}}, f"{key}-{last}", place, network
    )


def _first_stage(said: dict[str, Any]) -> dict[str, Any]:
    """A config as far as it says what is trained before the encoder."""
    stage = {name: value for name, value in said.items() if name not in (*_INCIDENTAL, *_LATER)}
    model = {name: value for name, value in said.get("model", {}).items() if name not in _BEHIND}
    only = {name: value for name, value in said.get("criterion", {}).items() if name == "grounding"}  # its one loss
    data = dict(said.get("data", {}))
    if said["grounding"].get("clip"):  # its own
        data.pop("clip", None)
    return stage | {"model": model, "data": data, "criterion": only}


def inference_of(said: dict[str, Any]) -> dict[str, Any]:
    """How a config's networks are asked, as far as it says so."""
    return dict((said.get("validation") or {}).get("inference") or {})


def _without_inference(said: dict[str, Any]) -> dict[str, Any]:
    """A config as far as it says what is trained."""
    validation = {name: value for name, value in (said.get("validation") or {}).items() if name != "inference"}
    return {name: value for name, value in said.items() if name != "validation"} | (
        {"validation": validation} if validation else {}
    )


def hash_of(content: Any) -> str:
    """Eight hexadecimal digits of JSON-ready content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def check(run: TrainingRun) -> None:
    """Raises InputError where the config is none, before anything is started."""
    from engine import TrainConfig

    from_dict(TrainConfig, run.config)


def train(run: TrainingRun, *, processes: int, device: str, deadline: float, say: Callable[[str], None]) -> bool:
    """Train, or go on, until it is finished (True) or `time.monotonic()` passes `deadline` (False, all saved).

    Raises InputError when the training fails or runs already.
    """
    if run.finished:
        return True
    if run.network is not None and not train(
        run.network, processes=processes, device=device, deadline=deadline, say=say
    ):
        return False
    check(run)
    run.folder.mkdir(parents=True, exist_ok=True)
    config = write_json(run.folder / "config.yaml", run.config | {"device": device})  # JSON is YAML
    words = ["main.py", "train", "--config", str(config.resolve()), "--output-dir", str(run.output.resolve())]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), *words]
    environment = os.environ | ({"OMP_NUM_THREADS": "1"} if processes > 1 else {})
    say(f"training {run.name}, seed {run.seed}, in {run.folder}")
    with (run.folder / "lock").open("w") as lock:
        _take(lock.fileno(), run.folder)
        # the child holds the lock too: a training that outlives a killed parent is not joined by a second one
        process = subprocess.Popen(command, cwd=ROOT, env=environment, pass_fds=(lock.fileno(),))
        seconds = _wait(process, run.folder / "clock.json", deadline)
    if process.returncode == 0:
        write_json(run.folder / "finished.json", {"seconds": round(seconds), "processes": processes})
    elif time.monotonic() < deadline:
        raise InputError(
            f"training {run.name} stopped with status {process.returncode}; its messages are above, and the same "
            f"command goes on from {run.folder}"
        )
    return run.finished


def _take(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(f"a training is running in {folder} already; wait for it, or stop it first") from None


def _wait(process: subprocess.Popen[bytes], clock: Path, deadline: float) -> float:
    """Wait for the end, asking for it at the deadline; returns the seconds of this and earlier sittings together."""
    before = json.loads(clock.read_text(encoding="utf-8"))["seconds"] if clock.is_file() else 0.0
    began, asked = time.monotonic(), False
    try:
        while process.poll() is None:
            try:
                process.wait(min(_CLOCK_EVERY, max(0.1, deadline - time.monotonic())) if not asked else _CLOCK_EVERY)
            except subprocess.TimeoutExpired:
                write_json(clock, {"seconds": before + time.monotonic() - began})
            if time.monotonic() >= deadline and not asked and process.poll() is None:
                process.send_signal(signal.SIGTERM)
                asked = True
    except KeyboardInterrupt:  # the terminal's Ctrl-C reached the training as well, which saves
        process.wait()
        raise
    seconds = before + time.monotonic() - began
    write_json(clock, {"seconds": seconds})
    return seconds


def facts(run: TrainingRun, base: Path) -> dict[str, Any]:
    """What a result says of its training: settings, commit, hardware, steps, seconds; and of its choice."""
    start = next(line for line in _events(run.output) if line["event"] == "start")
    choice = None
    if run.network is not None:
        choice = {"key": run.folder.name.removeprefix("choice-"), **_length(run.folder)}
    return {
        "name": run.name, "key": (run.network or run).key, "config": base.as_posix(),
        "changes": list(TRAININGS[run.name].changes), "seed": run.seed, **_length(run.output),
        "grounding steps": max((line["step"] for line in _events(run.grounding)), default=0),
        "choice": choice, "commit": start["commit"], "hardware": start["hardware"],
    }  # fmt: skip


def _length(folder: Path) -> dict[str, Any]:
    finished = json.loads((folder / "finished.json").read_text(encoding="utf-8"))
    return {"steps": max(line["step"] for line in _events(folder)), **finished}


def curve(run: TrainingRun) -> dict[str, Any]:
    """Learning curves from the run's log: [step, loss] of all stages, thinned, and what validation found."""
    stages = {"grounding": run.grounding, "training": run.output}
    if run.network is not None:
        stages["choice"] = run.folder
    losses = {stage: _thinned([[line["step"], round(line["loss"], 4)] for line in _events(folder)
                               if line["event"] == "train"]) for stage, folder in stages.items()}  # fmt: skip
    found = [[line["step"], round(line["J&F"], 4)] for line in _events(run.output) if line["event"] == "validation"]
    return {**losses, "validation J&F": found}


def _events(folder: Path) -> list[dict[str, Any]]:
    path = folder / "log.jsonl"
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _thinned(points: list[list[float]]) -> list[list[float]]:
    """At most `_CURVE_POINTS` points, the last one among them; each stands for itself, nothing is smoothed."""
    step = -(-len(points) // _CURVE_POINTS) or 1
    return points[::-1][::step][::-1]
