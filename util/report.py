"""What makes a number a result: the command, commit, hardware and versions behind it, and how it is shown."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from util.atomic import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parent.parent


def provenance(device: torch.device | str = "cpu") -> dict[str, Any]:
    """How to get this number again: `command`, `commit` ("+changes": the checkout was not clean), `hardware`, versions.

    Files named on the command line appear as typed; nothing else of the machine's paths is recorded.
    """
    return {
        "command": f"python {_program()} {shlex.join(sys.argv[1:])}".strip(),
        "commit": commit(),
        "hardware": hardware(torch.device(device)),
        "python": platform.python_version(),
        **{
            name: _version(name) for name in ("torch", "torchvision", "transformers", "numpy", "opencv-python-headless")
        },
    }


def commit() -> str:
    """The checkout's commit, "+changes" added where tracked files differ from it; "unknown" outside a checkout."""
    try:
        found = _git("rev-parse", "--short=12", "HEAD")
        return found + ("+changes" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def hardware(device: torch.device) -> str:
    """One line: the device's name, and the CPU's threads that torch uses."""
    threads = f"{_processor()}, {torch.get_num_threads()} of {os.cpu_count()} threads"
    if device.type != "cuda":
        return threads
    memory = torch.cuda.get_device_properties(device).total_memory / 2**30
    return f"{torch.cuda.get_device_name(device)} ({memory:.0f} GiB), CUDA {torch.version.cuda}; {threads}"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a Markdown table, columns in the order of the first row; floats to three digits, None as a dash."""
    if not rows:
        return ""
    names = list(rows[0])
    cells = [names, *[[_cell(row.get(name)) for name in names] for row in rows]]
    widths = [max(len(line[n]) for line in cells) for n in range(len(names))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def write_json(path: Path, content: Mapping[str, Any] | Sequence[Any]) -> Path:
    """Write indented JSON, whole or not at all; makes the folder."""
    return write_bytes(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def write_figure(path: Path, figure: Figure) -> Path:
    """Write a figure of matplotlib as PNG, whole or not at all; makes the folder."""
    picture = io.BytesIO()
    figure.savefig(picture, dpi=110, format="png")
    return write_bytes(path, picture.getvalue())


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows with a header, columns in the order of the first row, whole or not at all; makes the folder."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [])
    writer.writeheader()
    writer.writerows(rows)
    return write_bytes(path, text.getvalue().encode())


def _program() -> str:
    script = Path(sys.argv[0]).resolve()
    if not script.is_relative_to(ROOT):
        return script.name
    inside = script.relative_to(ROOT)
    return str(inside) if len(inside.parts) == 1 else "-m " + ".".join(inside.with_suffix("").parts)


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        listed = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        return next(line.split(":", 1)[1].strip() for line in listed.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
