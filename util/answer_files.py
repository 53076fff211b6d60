"""An answered video as files: overlay, contact sheet, masks as PNG and as run lengths with scores in one JSON."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from util import rle
from util.drawing import contact_sheet, overlay, save_image
from util.errors import InputError
from util.types import FrameSource
from util.video_writer import VideoWriter

FORMAT = "refertrack-masks/1"


class Answer(Protocol):
    """What is written (`models/key_frame.py`, VideoResult): masks run-length [E][T], arrays [E, T] and [E]."""

    @property
    def sentences(self) -> Sequence[str]: ...
    @property
    def masks(self) -> Sequence[Sequence[rle.RLE]]: ...
    @property
    def scores_ET(self) -> np.ndarray: ...
    @property
    def presence_ET(self) -> np.ndarray: ...
    @property
    def key_E(self) -> np.ndarray: ...
    def frame_masks(self, frame: int) -> np.ndarray: ...


def check_folder(folder: Path, frames: FrameSource, sentences: int) -> None:
    """Make the folder and see that it can hold what is coming, before hours are spent. Raises InputError if not."""
    height, width = frames.size
    needed = (1 << 20) + len(frames) * height * width * (0.05 + 0.01 * sentences)  # bytes per pixel, from experience
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}; choose another --out") from error
    if free < needed:
        raise InputError(
            f"no space left for {folder}: about {needed / 2**20:.0f} MiB are needed and {free / 2**20:.0f} MiB free; "
            "free some or choose another --out"
        )


def write_answer(
    folder: Path,
    frames: FrameSource,
    names: Sequence[str],
    answer: Answer,
    facts: Mapping[str, Any],
    *,
    truth: Callable[[int], np.ndarray] | None = None,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> list[Path]:
    """Write everything into `folder`, at the video's own size and rate; returns what was written, in order.

    overlay.mp4 (of a single frame: overlay.png), contact_sheet.png, masks/<sentence>/<frame name>.png (0 or 255,
    sentences counted from 0) and masks.json: format, `facts`, size, rate, frame names, and for each sentence its words,
    key frame (null: none), scores, presence and run-length masks. `truth(frame)`, bool [E, H, W], is outlined in the
    sheet. Masks that an earlier answer left in the folder are removed. Raises InputError on a full disk.
    """
    _clear(folder)
    film = len(frames) > 1
    picture = folder / ("overlay.mp4" if film else "overlay.png")
    if film:
        with VideoWriter(picture, fps=frames.fps) as video:
            for frame in range(len(frames)):
                video.write(_frame(folder, frames, names, answer, frame))
                progress("writing", frame + 1, len(frames))
    else:
        save_image(picture, _frame(folder, frames, names, answer, 0))
    sheet, listed = folder / "contact_sheet.png", folder / "masks.json"
    save_image(sheet, contact_sheet(frames, answer, truth=truth))
    _write_json(listed, _description(frames, names, answer, facts))
    return [picture, sheet, folder / "masks", listed]


def _frame(folder: Path, frames: FrameSource, names: Sequence[str], answer: Answer, frame: int) -> np.ndarray:
    """Write a frame's masks; the frame with its overlay."""
    masks_EHW = answer.frame_masks(frame)
    for e, mask in enumerate(masks_EHW):
        save_image(folder / "masks" / str(e) / f"{names[frame]}.png", mask.astype(np.uint8) * 255)
    return overlay(frames[frame], masks_EHW, answer.sentences)


def _description(frames: FrameSource, names: Sequence[str], answer: Answer, facts: Mapping[str, Any]) -> dict[str, Any]:
    def listed(values_T: np.ndarray) -> list[float]:
        return [round(float(value), 4) for value in values_T]

    return {
        "format": FORMAT,
        **facts,
        "size": list(frames.size),
        "fps": frames.fps,
        "frames": list(names),
        "sentences": [
            {
                "sentence": sentence,
                "key": int(answer.key_E[e]) if answer.key_E[e] >= 0 else None,
                "scores": listed(answer.scores_ET[e]),
                "presence": listed(answer.presence_ET[e]),
                "masks": list(answer.masks[e]),
            }
            for e, sentence in enumerate(answer.sentences)
        ],
    }


def _clear(folder: Path) -> None:
    """Remove what an earlier answer wrote here, and nothing else."""
    listed = folder / "masks.json"
    if not listed.is_file():
        return
    try:
        ours = json.loads(listed.read_text(encoding="utf-8"))
        if ours.get("format") != FORMAT:
            return
        for e in range(len(ours["sentences"])):
            for name in ours["frames"]:
                (folder / "masks" / str(e) / f"{Path(name).name}.png").unlink(missing_ok=True)
        for name in ("overlay.mp4", "overlay.png", "contact_sheet.png", "masks.json"):
            (folder / name).unlink(missing_ok=True)
        for e in range(len(ours["sentences"])):
            if not any((folder / "masks" / str(e)).iterdir()):
                (folder / "masks" / str(e)).rmdir()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"cannot replace the answer in {folder}: {error}; empty it or choose another --out") from error


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(f"cannot write {path}: {error.strerror}; free space or choose another --out") from error
