"""Provenance and tables: what a number carries with it."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest

from util import report


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        ([str(report.ROOT / "main.py"), "eval", "--out", "a b"], "python main.py eval --out 'a b'"),
        (
            [str(report.ROOT / "scripts" / "bench" / "inference.py"), "--quick"],
            "python -m scripts.bench.inference --quick",
        ),
        (["/elsewhere/bin/pytest"], "python pytest"),
    ],
)
def test_command_can_be_typed_again(argv: list[str], command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    found = report.provenance()
    assert found["command"] == command
    assert str(report.ROOT) not in json.dumps(found)
    assert all(found[name] for name in ("commit", "hardware", "torch", "transformers"))


def test_commit_is_unknown_outside_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert report.commit() == "unknown"


def test_table_aligns_and_fills_gaps() -> None:
    shown = report.table([{"part": "all", "share": 0.25}, {"part": "a longer one"}])
    lines = shown.splitlines()
    assert len({len(line) for line in lines}) == 1
    assert "0.250" in lines[2]
    assert lines[3].rstrip(" |").endswith("-")
    assert report.table([]) == ""


def test_files_are_written_whole(tmp_path: Path) -> None:
    path = report.write_json(tmp_path / "new" / "r.json", {"sentence": "größer"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"sentence": "größer"}
    assert "größer" in path.read_text(encoding="utf-8")
    rows = [{"a": 1, "b": "x,y"}, {"a": 2, "b": 'quoted "z"'}]
    with report.write_csv(tmp_path / "new" / "r.csv", rows).open(newline="", encoding="utf-8") as file:
        assert [row["b"] for row in csv.DictReader(file)] == ["x,y", 'quoted "z"']
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["r.csv", "r.json"]
