"""What lies in a folder and stands in no list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from datasets.check.findings import Finding, note, some
from util.errors import InputError
from util.types import ReferringVideo


def readable(videos: Sequence[ReferringVideo]) -> Iterator[ReferringVideo]:
    """The videos that can be built."""
    for index in range(len(videos)):
        try:
            yield videos[index]
        except InputError:
            continue  # it is a finding already


def unlisted(folder: Path, listed: Iterable[str], what: str) -> Iterator[Finding]:
    """A note when `folder` holds more than what is listed."""
    if folder.is_dir():
        more = {path.name for path in folder.iterdir() if not path.name.startswith(".")} - set(listed)
        if more:
            yield note("unlisted", f"{folder} holds {what} that no list names ({len(more)}): {some(more)}")


def unlisted_frames(folder: Path, suffix: str, videos: Sequence[ReferringVideo]) -> Iterator[Finding]:
    """A note for each video's folder in `folder` that holds more than its frames."""
    for video in readable(videos):
        yield from unlisted(folder / video.id, (f"{name}{suffix}" for name in video.frame_names), "files")
