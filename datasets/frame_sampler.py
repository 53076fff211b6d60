"""Which frames of a video make a training clip.

Every rule returns exactly the number of frames asked for, ascending, whatever the video's length; a video shorter than
the clip repeats frames.
"""

from __future__ import annotations

import numpy as np


def spaced_frames(
    anchor: int, length: int, count: int, max_skip: int, rng: np.random.Generator, *, min_skip: int = 1
) -> np.ndarray:
    """`count` evenly spaced frame numbers that include `anchor`, ascending.

    The spacing is drawn from those of min_skip..max_skip with which the clip fits into a video of `length` frames;
    where none does, the widest below that fits is taken. A video shorter than the clip is taken whole, with some of its
    frames repeated.
    """
    if length < count:
        repeated = rng.integers(0, length, count - length)
        return np.sort(np.concatenate([np.arange(length), repeated]))
    after = length - 1 - anchor
    fitting = [s for s in range(1, max_skip + 1) if anchor // s + after // s >= count - 1]
    spacing = int(rng.choice([s for s in fitting if s >= min_skip] or fitting[-1:]))
    # the anchor may take any place of the clip at which the clip stays inside the video
    place = int(rng.integers(max(0, count - 1 - after // spacing), min(count - 1, anchor // spacing) + 1))
    return anchor + spacing * (np.arange(count) - place)


def published_frames(anchor: int, length: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """ReferFormer's rule for Ref-YouTube-VOS: two neighbours within 3 frames, the rest from outside them; ascending.

    Kept as published: a frame can come twice, two frames never include the later neighbour. Beyond it: where the
    published rule stops with an error (fewer than half as many frames as are missing), frames repeat.
    """
    if count == 1:
        return np.array([anchor])
    near, far = (int(step) for step in rng.integers(1, 4, 2))
    local = [anchor, max(0, anchor - near), min(length - 1, anchor + far)]
    missing = count - len(local)
    if missing > 0:
        outside = np.concatenate([np.arange(min(local)), np.arange(max(local), length)])
        if len(outside) > missing:
            local += list(rng.choice(outside, missing, replace=False))
        elif length >= missing:
            local += list(rng.choice(length, missing, replace=False))
        else:
            extra = missing - length
            local += [*range(length), *rng.choice(length, extra, replace=extra > length)]
    return np.sort(local)[:count]


def published_neighbours(index_T: np.ndarray, length: int) -> np.ndarray:
    """TF-RVOS's rule for the frame that tracking is told about: the next of even frames, the one before of odd ones.

    The last frame has the one before it; the only frame of a video has itself.
    """
    neighbours = index_T + np.where((index_T % 2 == 0) & (index_T < length - 1), 1, -1)
    return np.maximum(neighbours, 0)
