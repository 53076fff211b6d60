"""What a run writes down: one JSON line per event, TensorBoard scalars, and a progress line with ETA."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor

from util.distributed import World
from util.errors import InputError


class RunLog:
    """`log.jsonl` and TensorBoard files in `folder`; silent where `enabled` is False (every rank but the first)."""

    def __init__(self, folder: Path, *, enabled: bool = True, stream: TextIO | None = None) -> None:
        self.folder, self.enabled = folder, enabled
        self._stream = stream or sys.stderr
        self._lines: TextIO | None = None
        self._board: Any = None

    def open(self, *, after: int = 0) -> None:
        """Begin to write. Lines and scalars of steps beyond `after`, left by a run that was killed after its last
        checkpoint, are dropped, so that the log of a resumed run reads like that of an uninterrupted one."""
        if not self.enabled:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "log.jsonl"
        _drop_after(path, after)
        self._lines = path.open("a", encoding="utf-8")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.say("TensorBoard is not installed: logging to log.jsonl alone (pip install tensorboard)")
        else:
            self._board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=after + 1 if after else None)

    def event(self, kind: str, step: int, **values: float | int | str) -> None:
        """Append {"event": kind, "step": step, ...}; numbers also become TensorBoard scalars `kind/name`."""
        if self._lines is None:
            return
        finite = {k: v if not isinstance(v, float) or math.isfinite(v) else str(v) for k, v in values.items()}
        self._lines.write(json.dumps({"event": kind, "step": step, **finite}) + "\n")
        self._lines.flush()
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(f"{kind}/{name}", value, step)

    def say(self, message: str) -> None:
        """Print a line for the person who watches."""
        if self.enabled:
            print(message, file=self._stream, flush=True)

    def close(self) -> None:
        if self._lines is not None:
            self._lines.close()
        if self._board is not None:
            self._board.close()


class Progress:
    """Time per step and time left, from a moving average that forgets slow starts."""

    def __init__(self, step: int, total: int) -> None:
        self.total = total
        self.seconds: float | None = None
        self._step, self._since = step, time.monotonic()

    def at(self, step: int) -> str:
        """Call every few steps: "step 40/6000 (0.7 %)  0.52 s/step  ETA 0:51:39"."""
        now = time.monotonic()
        if step > self._step:
            latest = (now - self._since) / (step - self._step)
            self.seconds = latest if self.seconds is None else 0.7 * self.seconds + 0.3 * latest
            self._step, self._since = step, now
        share = f"step {step}/{self.total} ({100 * step / max(self.total, 1):.1f} %)"
        if self.seconds is None:
            return share
        return f"{share}  {self.seconds:.2f} s/step  ETA {duration(self.seconds * (self.total - step))}"

    def pause(self) -> None:
        """Leave out the time since the last call (validation, a checkpoint) from the next estimate."""
        self._since = time.monotonic()


class LossWindow:
    """Losses since the last report, summed on their device so that a step does not wait for their values."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self._norm: Tensor | None = None

    def end_step(self, parts: Sequence[Mapping[str, Tensor]], gradient_norm: Tensor) -> None:
        """Add a step: losses of its micro-batches (those of auxiliary layers, `..._0`, are left out), gradient norm."""
        for losses in parts:
            for name, value in losses.items():
                if not name[-1].isdigit():
                    self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value
        self._steps += 1
        self._norm = gradient_norm if self._norm is None else self._norm + gradient_norm

    def drain(self, world: World) -> dict[str, float]:
        """Means over the steps of sums over micro-batches and ranks; starts anew. All ranks must call it."""
        assert self._norm is not None
        names = list(self._sums)
        sums = world.sum(torch.stack(list(self._sums.values())).tolist())
        means = {name: value / self._steps for name, value in zip(names, sums, strict=True)}
        means["gradient_norm"] = float(self._norm) / self._steps
        self._sums, self._steps, self._norm = {}, 0, None
        return means


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"


def _drop_after(path: Path, step: int) -> None:
    """Cut the lines of steps beyond `step`, and a last line that was cut off in the middle."""
    if not path.exists():
        return
    kept = []
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except (ValueError, KeyError, TypeError):
                continue
    except OSError as error:
        raise InputError(f"cannot read {path}: {error}; move it away to start a new log") from error
    path.write_text("".join(kept), encoding="utf-8")
