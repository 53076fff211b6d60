"""docs/evidence.md from finished runs: what stands between its markers is written anew, the rest is left as it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from datasets.synthetic.scenes import SPLITS
from scripts.evidence.plots import save_plots
from scripts.evidence.results import Results
from scripts.evidence.rows import HARD, QUESTIONS, ROWS
from scripts.evidence.tables import (
    COMING_AND_GOING,
    KEYED,
    Finished,
    Line,
    bin_table,
    claim_lines,
    family_table,
    movement_table,
    open_lines,
    presence_table,
    question_table,
    size_table,
    training_table,
)
from util.atomic import write_bytes
from util.errors import InputError
from util.report import table

ALL = tuple(dict.fromkeys(row for rows in QUESTIONS.values() for row in rows))

SECTIONS: dict[str, Callable[[Finished], str]] = {
    "open": lambda found: "\n".join(open_lines(found)),
    "movements": lambda found: (
        _pictured("movements", "Share of sentences pointed right for", movement_table(found))
        if found.movements
        else "not run yet"
    ),
    "claims": lambda found: table(claim_lines(found)),
    "questions": lambda found: _questions(found),  # defined below
    "families": lambda found: table(family_table(found)),
    "distance": lambda found: table(bin_table(found, KEYED, HARD, of="distance", which="all")),
    "distance-right": lambda found: _pictured(
        "distance", "J&F over distance from the key", bin_table(found, KEYED, HARD, of="distance", which="right key")
    ),
    "reentry": lambda found: _pictured(
        "reentry", "J&F over time since re-entry", bin_table(found, ALL, COMING_AND_GOING, of="since re-entry")
    ),
    "sizes": lambda found: _pictured("sizes", "J&F by size of the target", size_table(found)),
    "presence": lambda found: table(presence_table(found)),
    "trainings": lambda found: _pictured("curves", "Losses of the trainings", training_table(found)),
}
_MARKED = re.compile(r"<!-- begin ([\w-]+) -->\n.*?<!-- end \1 -->", re.DOTALL)


def write_report(results: Results, document: Path) -> list[Path]:
    """Write the document's tables anew, and pictures beside the results. Raises InputError when there is no result."""
    runs = results.read()
    if not runs:
        raise InputError(f"{results.folder} holds no finished run; `main.py experiments run` makes them")
    usual = [row for row in runs if ROWS[row].videos == "held-out"]  # a control may have nothing to ask of a split
    incomplete = [row for row in usual for run in runs[row].values() if set(run["splits"]) != set(SPLITS)]
    if incomplete:
        raise InputError(f"{', '.join(incomplete)} lack a split; run them again")
    found = Finished(runs, results.bounds(), results.read_movements())
    if not document.is_file():
        raise InputError(f"{document} is not there; it holds the markers between which the tables go")
    text = document.read_text(encoding="utf-8")
    pictures = save_plots(results.folder.parent, found)
    return [write_bytes(document, filled(text, found).encode()), *pictures]


def filled(text: str, found: Finished) -> str:
    """The text with each marked section's content made from the results. Raises InputError for an unknown section."""

    def content(marked: re.Match[str]) -> str:
        name = marked[1]
        if name not in SECTIONS:
            raise InputError(f"the document marks a section {name!r}; there are {', '.join(SECTIONS)}")
        return f"<!-- begin {name} -->\n{SECTIONS[name](found)}\n<!-- end {name} -->"

    return _MARKED.sub(content, text)


def _questions(found: Finished) -> str:
    tables = {title: table(question_table(found, rows)) for title, rows in QUESTIONS.items()}
    shown = [f"### {title}\n\n{lines}" for title, lines in tables.items() if lines]
    return "\n\n".join([_picture("splits", "J&F by split"), *shown])


def _pictured(name: str, what: str, lines: Sequence[Line]) -> str:
    return f"{table(lines)}\n\n{_picture(name, what)}"


def _picture(name: str, what: str) -> str:
    return f"![{what}](evidence/{name}.png)"
