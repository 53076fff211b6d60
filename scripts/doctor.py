"""What works on this machine: packages, devices, the operator and the network against known numbers, disk, data."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from util.errors import InputError

HELP = "say what works on this machine: packages, devices, self-tests, disk, data"
ROOT = Path(__file__).resolve().parent.parent
LEAST_DISK, LITTLE_DISK = 1e9, 20e9  # bytes: nothing can be saved; a training run may not fit

REQUIRED = ("torch", "torchvision", "transformers", "tokenizers", "safetensors", "huggingface-hub", "numpy", "pillow",
            "opencv-python-headless", "av", "PyYAML", "tqdm")  # fmt: skip
OPTIONAL = {
    "pycocotools": "faster mask codes",
    "tensorboard": "curves of a training run",
    "fvcore": "FLOP counts in scripts/bench",
    "timm": "teacher models",
    "sam2": "the teacher's tracker, and SAM 2 propagation",
}

State = Literal["ok", "note", "fail"]


@dataclass(frozen=True)
class Check:
    """One line of the answer. A note is nothing wrong: something optional is absent, or good to know."""

    name: str
    state: State
    detail: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        action="append",
        type=Path,
        metavar="DIR",
        help="a data set's root, may be repeated (default: REFERTRACK_DATA, then data/)",
    )


def run(options: argparse.Namespace) -> int:
    return doctor(options.data or [])


def doctor(data: Sequence[Path]) -> int:
    """Print every check; returns 1 if one failed, else 0."""
    failures: list[Check] = []
    for title, checks in (
        ("packages", packages),
        ("devices", devices),
        ("self-tests", self_tests),
        ("video", video),
        ("disk", disk),
        ("weights", weights),
        ("data", lambda: data_sets(data)),
    ):
        print(title)
        for check in _survive(title, checks):
            print(f"  {check.state if check.state != 'note' else '-':<5}{check.name:<24} {check.detail}", flush=True)
            failures += [check] if check.state == "fail" else []
    if failures:
        print(f"\n{len(failures)} failed: {', '.join(check.name for check in failures)}")
        return 1
    print("\nall is well; `python main.py demo` shows it at work")
    return 0


def _survive(title: str, checks: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """A package that is missing or broken fails its section and not the program."""
    try:
        yield from checks()
    except (ImportError, OSError) as error:
        yield Check(title, "fail", f"{type(error).__name__}: {error}")


def packages() -> Iterator[Check]:
    """Python and the packages, with the version they were tested in where it is another."""
    tested = _tested_versions()
    yield Check("Python", "ok", f"{platform.python_version()} on {platform.platform()}")
    for name in (*REQUIRED, *OPTIONAL):
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if name in OPTIONAL:
                yield Check(name, "note", f"not installed; for {OPTIONAL[name]}")
            else:
                yield Check(name, "fail", "not installed; run `pip install -e .`")
            continue
        other = tested.get(_plain(name))
        differs = other is not None and other.split("+")[0] != version.split("+")[0]
        yield Check(name, "ok", f"{version} (tested with {other})" if differs else version)


def _tested_versions() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = (line.split(";")[0].strip().split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {_plain(name): version for name, version in pins}


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def devices() -> Iterator[Check]:
    """What computes, and with which deformable attention."""
    import torch

    from models.ops import status

    yield Check("CPU", "ok", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads in torch")
    if not torch.cuda.is_available():
        yield Check("CUDA", "note", "no CUDA device; everything runs on the CPU, training real data takes a GPU")
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        memory = f"{properties.total_memory / 2**30:.0f} GiB, bf16 {'yes' if torch.cuda.is_bf16_supported() else 'no'}"
        yield Check(f"cuda:{number}", "ok", f"{properties.name}, {memory}, CUDA {torch.version.cuda}")
    for device in _device_kinds():
        for kernel in status(device):
            detail = f"{kernel.note} (used)" if kernel.chosen else kernel.note
            yield Check(f"{device} kernel {kernel.name}", "ok" if kernel.available else "note", detail)


def _device_kinds() -> list[str]:
    import torch

    return ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def self_tests() -> Iterator[Check]:
    """The operator and the network, on every kind of device."""
    from models import self_test

    measures: tuple[tuple[str, Callable[[str], float], float, str], ...] = (
        ("operator", self_test.operator_error, self_test.OPERATOR_TOLERANCE, "a float64 loop"),
        ("network", self_test.network_error, self_test.NETWORK_TOLERANCE, "the stored sums"),
    )
    for device in _device_kinds():
        for name, measure, tolerance, reference in measures:
            try:
                error = measure(device)
            except Exception as failure:  # whatever a broken driver or package raises is the answer here
                yield Check(f"{name} on {device}", "fail", f"{type(failure).__name__}: {failure}")
                continue
            detail = f"differs from {reference} by {error:.1e} (at most {tolerance:.0e})"
            # A NaN is no small difference.
            yield Check(f"{name} on {device}", "ok" if error <= tolerance else "fail", detail)


def video() -> Iterator[Check]:
    """Whether a file that is written as H.264 can be read again."""
    import numpy as np

    from datasets.video import open_video
    from util.video_writer import VideoWriter

    frames = np.zeros((4, 48, 64, 3), np.uint8)
    frames[:, :, 32:] = 200
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "test.mp4"
            with VideoWriter(path, fps=5) as writer:
                for frame in frames:
                    writer.write(frame)
            back = open_video(path)
            error = max(np.abs(back[n].astype(int) - frame).mean() for n, frame in enumerate(frames))
            whole = len(back) == len(frames) and error < 10
    except Exception as failure:  # as above
        yield Check("H.264", "fail", f"{type(failure).__name__}: {failure}; reinstall av (`pip install -U av`)")
        return
    yield Check("H.264", "ok" if whole else "fail", f"written and read, {error:.1f} of 255 lost on average")


def disk() -> Iterator[Check]:
    """Room where outputs and downloads go."""
    cache = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    for name, path in (("here", Path.cwd()), ("hub cache", cache)):
        place = next(parent for parent in (path, *path.parents) if parent.exists())
        free = shutil.disk_usage(place).free
        state: State = "fail" if free < LEAST_DISK else "note" if free < LITTLE_DISK else "ok"
        yield Check(name, state, f"{free / 1e9:.0f} GB free at {path}")
    if not os.access(Path.cwd(), os.W_OK):
        yield Check("here", "fail", f"{Path.cwd()} is not writable; outputs need --out elsewhere")


def weights() -> Iterator[Check]:
    """The checkpoints in pretrained_weights/."""
    from models.checkpoint import read_info

    folders = sorted(path.parent for path in (ROOT / "pretrained_weights").glob("**/model.safetensors"))
    if not folders:
        yield Check("pretrained_weights", "note", "empty; `python main.py convert` puts released weights there")
    for folder in folders:
        name = str(folder.relative_to(ROOT / "pretrained_weights"))
        try:
            config = read_info(folder).config
        except InputError as error:
            yield Check(name, "fail", str(error))
            continue
        detail = f"{config.backbone.name}, tracking {config.tracking}, protocol {config.protocol.name}"
        yield Check(name, "ok", detail)


def data_sets(given: Sequence[Path]) -> Iterator[Check]:
    """Every split of every data set under the roots, opened, and its first frame and mask decoded."""
    named = [*given] or [Path(part) for part in os.environ.get("REFERTRACK_DATA", "").split(os.pathsep) if part]
    roots = named or [path for path in (ROOT / "data",) if path.is_dir()]
    found = 0
    for root in roots:
        if not root.is_dir():
            yield Check(str(root), "fail", "no such folder")
            continue
        splits = _splits(root) or [split for path in sorted(root.iterdir()) for split in _splits(path)]
        for layout, path, split in splits:
            yield _open_split(layout, path, split)
        found += len(splits)
        if not splits and root in named:
            yield Check(str(root), "fail", "no Ref-YouTube-VOS or MeViS tree in it; docs/data.md shows the layouts")
    if not roots or (not found and not named):
        yield Check("data sets", "note", "none found; name one with --data, or make one: `python main.py data synth`")


def _splits(root: Path) -> list[tuple[str, Path, str]]:
    """(layout, root, split) of each data set whose root this is."""
    tubes = sorted(root.glob("meta_expressions/*/meta_expressions.json"))
    mevis = sorted(root.glob("*/meta_expressions.json"))
    return [("ref_youtube_vos", root, path.parent.name) for path in tubes] + [
        ("mevis", root, path.parent.name) for path in mevis
    ]


def _open_split(layout: str, root: Path, split: str) -> Check:
    from datasets.mevis import read_mevis
    from datasets.ref_youtube_vos import read_ref_youtube_vos

    name = f"{layout} {split}"
    try:
        videos = (read_mevis if layout == "mevis" else read_ref_youtube_vos)(root, split)
        if not len(videos):
            return Check(name, "fail", f"{root} lists no videos")
        first = videos[0]
        height, width = first.frames[0].shape[:2]
        answered = first.masks is not None
        if first.masks is not None:
            first.masks.read(0, [i for e in first.expressions for i in e.object_ids or ()])
    except (InputError, OSError) as error:
        return Check(name, "fail", f"{root}: {error}")
    kind = "with masks" if answered else "without masks"
    return Check(name, "ok", f"{len(videos)} videos {kind}, the first {width}x{height}, at {root}")
