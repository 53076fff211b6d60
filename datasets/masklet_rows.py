"""quality.jsonl of masklets against the sentences: a weight that was changed in one place only is not trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from util.errors import InputError

_AGAIN = "make the masklets again"
_SAME = 1e-6  # weights are written with six digits


def require_rows(path: Path, videos: dict[str, Any]) -> None:
    """Raises InputError unless the file has one row of each sentence, of the same weight; a tree may do without it."""
    if not path.exists():
        return
    weights = _weights(path)
    known = {
        (video, key): sentence.get("weight", 1.0)
        for video, entry in videos.items()
        for key, sentence in _mapping(entry, "expressions").items()
        if isinstance(sentence, dict)
    }
    for key, weight in known.items():
        if key not in weights:
            raise InputError(f"{path}: there is no row of {key[0]}/{key[1]}; {_AGAIN}")
        row = weights[key]
        if not _is_number(row) or not _is_number(weight) or not abs(row - weight) <= _SAME:
            said = f"weighs {row!s:.50} here and {weight!s:.50} in the sentences"
            raise InputError(f"{path}: {key[0]}/{key[1]} {said}; {_AGAIN}")


def _weights(path: Path) -> dict[tuple[str, str], Any]:
    """The weights of the rows by video and sentence. Raises InputError for a line that is no row, or a second one."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the rows of quality in {path} ({error}); {_AGAIN}") from None
    weights: dict[tuple[str, str], Any] = {}
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            key = str(row["video_id"]), str(row["expression_id"])
            weight = row["weight"]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path}, line {number}: no row of a sentence; {_AGAIN}") from None
        if key in weights:
            raise InputError(f"{path}, line {number}: a second row of {key[0]}/{key[1]}; {_AGAIN}")
        weights[key] = weight
    return weights


def _mapping(entry: Any, key: str) -> dict[str, Any]:
    value = entry.get(key) if isinstance(entry, dict) else None
    return value if isinstance(value, dict) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
