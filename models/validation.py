"""How good the network is on whole held-out videos, segmented as a user would, sharded over the ranks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.inference import InferenceConfig
from models.key_frame import segment_video
from models.segmenter import Segmenter
from util.distributed import World
from util.drawing import save_contact_sheet
from util.scoring import Masks, score_videos, summarise
from util.types import ReferringVideo


def validate(
    segmenter: Segmenter,
    videos: Sequence[ReferringVideo],
    world: World,
    *,
    inference: InferenceConfig,
    count: int,
    pictures: int,
    folder: Path,
) -> dict[str, Any]:
    """`util.scoring.summarise` of the first `count` videos, the same on every rank.

    Contact sheets of the first `pictures` of them go to `folder`. Raises InputError when a video cannot be read or has
    no truth.
    """

    def answer(number: int, video: ReferringVideo) -> Masks:
        result = segment_video(segmenter, video.frames, [e.text for e in video.expressions], inference)
        if number < pictures:
            save_contact_sheet(folder / f"{video.id}.jpg", video, result)
        return result.masks

    return summarise(score_videos(answer, videos, world, limit=count))
