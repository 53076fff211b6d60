"""What a check found, and the page it makes of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Category = Literal["missing", "truncated", "mis-sized", "empty", "unlisted", "inconsistent"]
CATEGORIES: tuple[Category, ...] = ("missing", "truncated", "mis-sized", "empty", "unlisted", "inconsistent")
EXAMPLES = 3  # of each category that the page shows
LINE = 220  # characters of an example that the page shows

# Words of the readers' messages, the first that is found decides; a message without any is of an inconsistency.
_WORDS: tuple[tuple[Category, str], ...] = (
    ("mis-sized", r"for a frame of|for frames of|pixels, but|another size|different sizes"),
    ("truncated", r"^cannot read|damaged|truncated"),
    ("empty", r"has no text|no frames|no sentence|\bempty\b"),
    ("missing", r"^missing|is missing|no such|lacks"),
)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, in a sentence that names file and place.

    fault  True: a reader refuses it, so training and scores stop there. False: a note, it is read as the text says
    """

    category: Category
    text: str
    fault: bool = True


@dataclass(frozen=True)
class SplitCounts:
    """What was read of one split."""

    split: str
    videos: int = 0
    frames: int = 0
    labelled: int = 0  # frames whose masks were read
    sentences: int = 0
    no_target: int = 0  # sentences known to have no target


@dataclass(frozen=True)
class Report:
    """All that a check of one data set found."""

    root: Path
    kind: str
    splits: tuple[SplitCounts, ...]
    findings: tuple[Finding, ...]

    @property
    def faulty(self) -> bool:
        """Whether something is wrong that a reader refuses."""
        return any(finding.fault for finding in self.findings)

    def page(self) -> str:
        """The report as text: what is there, then faults and notes with their counts and first examples."""
        lines = [f"{self.root} holds {self.kind}", *_table(self.splits), ""]
        for fault, title in ((True, "faults"), (False, "notes (read all the same)")):
            found = [finding for finding in self.findings if finding.fault is fault]
            lines += [f"{title}: {len(found) or 'none'}", *self._examples(found)]
        if self.faulty:
            lines += ["", "repair what is named above, or set the videos concerned aside with --skip-bad"]
        return "\n".join(lines)

    def _examples(self, found: Sequence[Finding]) -> Iterable[str]:
        counts = Counter(finding.category for finding in found)
        for category in CATEGORIES:
            texts = [finding.text for finding in found if finding.category == category]
            if texts:
                yield f"  {category}: {counts[category]}"
                yield from (f"    {_short(text.replace(f'{self.root}/', ''))}" for text in texts[:EXAMPLES])
                if len(texts) > EXAMPLES:
                    yield f"    ... and {len(texts) - EXAMPLES} more"


def fault(error: Exception) -> Finding:
    """A reader's error as a finding; the category follows from the message."""
    text = str(error)
    words = re.sub(r"\S*/\S*[^\s:;,]", "/", text)  # a folder may be called anything
    if words.startswith("/ "):
        words = words[2:]
    return Finding(next((category for category, word in _WORDS if re.search(word, words)), "inconsistent"), text)


def note(category: Category, text: str) -> Finding:
    """Something that is read all the same."""
    return Finding(category, text, fault=False)


def some(names: Iterable[str], shown: int = 3) -> str:
    """The first few of several names, and how many there are."""
    listed = sorted(names)
    return ", ".join(listed[:shown]) + (f" and {len(listed) - shown} more" if len(listed) > shown else "")


def _table(splits: Sequence[SplitCounts]) -> list[str]:
    heads = ("split", "videos", "frames", "with masks", "sentences", "no target")
    rows = [heads, *((s.split, s.videos, s.frames, s.labelled, s.sentences, s.no_target) for s in splits)]
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(heads))]
    return [
        "  ".join(str(cell).rjust(width) if place else str(cell).ljust(width)
                  for place, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]  # fmt: skip


def _short(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= LINE else plain[: LINE - 3] + "..."
