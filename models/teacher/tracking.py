"""Following things through one video: what is pointed at by hand, and what a detector finds in chosen frames."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass

from datasets.tracks import Tracks
from models.teacher.detect.boxes import Candidate, merge_nouns, suppress
from models.teacher.interfaces import Detector, Prompt, VideoSegmenter
from models.teacher.sweep import SweepConfig, follow
from models.teacher.tracks import MergeConfig, to_tracks
from util.errors import InputError
from util.types import FrameSource, ReferringVideo

SAME_NOUN, ANY_NOUN = 0.7, 0.8  # box IoU above which boxes of one noun, and of whatever nouns, are one thing


@dataclass(frozen=True)
class Search:
    """Nouns that a detector looks for in some frames of a video."""

    detector: Detector
    nouns: tuple[str, ...]
    frames: Collection[int]

    def candidates(self, frame: int, source: FrameSource) -> list[Candidate]:
        """What is there, each thing once; nothing in other frames."""
        if frame not in self.frames:
            return []
        found = self.detector.detect(source[frame], self.nouns)
        return merge_nouns(suppress(found, SAME_NOUN), ANY_NOUN)


def track_video(
    video: ReferringVideo,
    segmenter: VideoSegmenter,
    *,
    prompts: Sequence[Prompt] = (),
    search: Search | None = None,
    sweep: SweepConfig,
    merge: MergeConfig,
    tick: Callable[[], None] = lambda: None,
) -> Tracks:
    """Tracks of everything that `prompts` point at and `search` finds, over the whole video; perhaps none.

    `tick` is called after each frame of a sweep. Raises InputError when there is nothing to look for, or a frame of a
    prompt or of the search is not in the video.
    """
    length = len(video.frames)
    if not prompts and search is None:
        raise InputError("nothing to follow: name something to look for, or give a box, points or a mask")
    asked = [prompt.frame for prompt in prompts] + sorted(search.frames if search else ())
    outside = [frame for frame in asked if not 0 <= frame < length]
    if outside:
        raise InputError(f"frame {outside[0]} is not in {video.id}, whose frames are 0 to {length - 1}")
    objects = follow(
        video.frames,
        lambda frame: search.candidates(frame, video.frames) if search else [],
        segmenter,
        sweep,
        prompts=prompts,
        tick=tick,
    )
    info = asdict(segmenter.info)
    generator = {
        "segmenter": info,
        "prompt_sources": [{"name": "detector", "model": asdict(search.detector.info), "nouns": search.nouns}]
        if search
        else [],
        "sweep": asdict(sweep),
        "merge": asdict(merge),
    }
    return to_tracks(
        objects,
        video,
        merge,
        dataset="video",
        split="",
        generator=generator,
        segmenter=repr(sorted(info.items())),
        key_frames=sorted(search.frames) if search else (),
    )
