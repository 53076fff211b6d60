"""Setting bad videos aside (`--skip-bad`): what can be read goes on, what cannot is listed with its reason."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tqdm import tqdm

from datasets.check.reading import read_video
from datasets.video_list import VideoList
from util.errors import InputError
from util.types import ReferringVideo


@dataclass(frozen=True)
class Skipped:
    """A video that was set aside, by its place in the split, and the first reason."""

    place: int
    reason: str


class GoodVideos(VideoList):
    """Those of `videos` that can be read from end to end; `skipped` lists the others.

    Everything is read once when this is made, on all cores, and not when a video's turn comes: so the number of videos
    and with it the order of training clips is settled before the first, and is the same on every rank and after a
    restart. Raises InputError when no video is left.
    """

    def __init__(self, videos: Sequence[ReferringVideo], *, workers: int | None = None) -> None:
        self._videos = videos
        places = range(len(videos))
        with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
            reasons = list(tqdm(pool.map(self._reason, places), "reading all videos", len(places), disable=None))
        self.skipped = tuple(Skipped(n, reason) for n, reason in enumerate(reasons) if reason is not None)
        self._good = [n for n, reason in enumerate(reasons) if reason is None]
        if places and not self._good:
            raise InputError(f"none of {len(places)} videos can be read; the first: {reasons[0]}")

    def _reason(self, place: int) -> str | None:
        try:
            found = read_video(self._videos[place])
        except InputError as error:
            return str(error)
        return next((finding.text for finding in found if finding.fault), None)

    def __len__(self) -> int:
        return len(self._good)

    def video(self, number: int) -> ReferringVideo:
        """One of the good ones."""
        return self._videos[self._good[number]]

    def listing(self) -> str:
        """The videos set aside, a line each with its reason; empty when there are none."""
        if not self.skipped:
            return ""
        head = f"set aside {len(self.skipped)} of {len(self._videos)} videos, which are neither trained on nor scored:"
        return "\n".join([head, *(f"  {skipped.reason}" for skipped in self.skipped)])
