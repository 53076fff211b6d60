"""Synthetic referring videos: worlds, their sentences, frames and masks, from a seed, made when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from datasets.video_list import VideoList
from util.errors import InputError
from util.types import ABSENT, PRESENT, Expression, ReferringVideo

from . import language
from .draw import Draw
from .harden import harden
from .layout import draw_world
from .observed import observe
from .quotas import QUOTAS, plain_quotas, spoken_of
from .render import Renderer
from .scenes import SPLITS, Split, draw_scene
from .sentences import HeldOut, Sentence, draw_sentences
from .textures import Images
from .verifier import Verifier
from .world import World

# Independent streams of one video's seed: changing how one part draws leaves the others as they were.
_WORLD, _SENTENCES, _BACKDROP, _HARDSHIP = 0, 1, 2, 3
# Worlds drawn before one is taken although something in it is seen too little.
_ATTEMPTS = 12


@dataclass(frozen=True)
class SyntheticConfig:
    """What synthetic videos are like. Training and held-out videos differ by `seed`.

    seed, videos: which videos, and how many.
    frames, fps, height, width: length and size; motions take the whole video, whatever its length.
    min_objects, max_objects: things in a video.
    expressions: sentences of a video at most; `motion` and `no_target` are the shares of those families, the rest is
        appearance.
    split: what kind of events the videos hold ("mixed": each video those of a split of its own); None for the plain
        world that `motion`, `no_target`, `twins`, `late` and `returning` describe, and which only then matter.
    hard: light, shadows, textures, blur, noise, compression, a moving camera and occluders that make it hard to see.
    textures: folder of images whose texture is put on grounds and things of hard videos.
    held_out: whether sentences may ("any"), must not ("exclude", for training) or have to ("only", for a test) use
        a phrasing, or put words together, that is held out.
    twins: share of videos in which two things look the same in everything. late, returning: share of videos in which
        something enters late, and in which something leaves and comes back.
    """

    seed: int = 0
    videos: int = 1000
    frames: int = 24
    fps: float = 6.0
    height: int = 96
    width: int = 160
    min_objects: int = 3
    max_objects: int = 5
    expressions: int = 6
    motion: float = 0.35
    no_target: float = 0.1
    twins: float = 0.4
    late: float = 0.3
    returning: float = 0.3
    split: Split | None = None
    hard: bool = False
    textures: str = ""
    held_out: HeldOut = "any"

    def __post_init__(self) -> None:
        if self.seed < 0 or min(self.videos, self.frames, self.expressions) < 1 or self.fps <= 0:
            raise InputError("synthetic videos need seed >= 0, videos, frames and expressions >= 1 and fps > 0")
        if min(self.height, self.width) < 16 or not 0.5 <= self.width / self.height <= 3:
            raise InputError(
                f"synthetic frames of {self.height}x{self.width} cannot be drawn; take at least 16 pixels a side and a "
                "width of half to three times the height"
            )
        if self.split is not None and not 1.3 <= self.width / self.height <= 3:
            raise InputError(
                f"a split of the synthetic world needs a frame 1.3 to 3 times as wide as high, not {self.height}x"
                f"{self.width}: its events take place from side to side"
            )
        if self.textures and not self.hard:
            raise InputError("textures are put on hard videos only; set hard: true")
        least = 3 if self.split is None else 2
        if not least <= self.min_objects <= self.max_objects <= 8:
            raise InputError(f"synthetic videos need {least} <= min_objects <= max_objects <= 8")
        shares = (self.motion, self.no_target, self.twins, self.late, self.returning, self.motion + self.no_target)
        if not all(0 <= share <= 1 for share in shares):
            raise InputError("motion, no_target, their sum, twins, late and returning are shares between 0 and 1")


class SyntheticFrames:
    """The frames of one video, each drawn when read (a `FrameSource`)."""

    def __init__(self, renderer: Renderer, config: SyntheticConfig) -> None:
        self._renderer, self._config = renderer, config

    @property
    def fps(self) -> float:
        return self._config.fps

    @property
    def size(self) -> tuple[int, int]:
        return self._config.height, self._config.width

    def __len__(self) -> int:
        return self._config.frames

    def __getitem__(self, index: int) -> np.ndarray:
        return self._renderer.frame(_moment(index, len(self)))


class SyntheticMasks:
    """The exact visible masks of one video, drawn when read (a `MaskSource`)."""

    def __init__(self, renderer: Renderer, frames: int) -> None:
        self._renderer, self._frames = renderer, frames

    def read(self, index: int, object_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Masks bool [N, H, W] of the objects in frame `index`, and states int8 [N]: absent where nothing is seen."""
        labels = self._renderer.labels(_moment(index, self._frames))
        masks = labels[None] == np.asarray(object_ids, np.uint8)[:, None, None]
        return masks, np.where(masks.any(axis=(1, 2)), PRESENT, ABSENT).astype(np.int8)

    def whole(self, index: int, object_ids: Sequence[int]) -> np.ndarray:
        """What the objects cover of frame `index`, whatever is in front of them; bool [N, H, W]."""
        return self._renderer.whole(_moment(index, self._frames), object_ids)

    def state(self, index: int, object_id: int) -> Literal["present", "absent", "occluded"]:
        """Occluded: not one pixel of the object can be seen, but it would fill some if nothing were in front of it.

        Data sets and `read` know no such state: to them it is absent.
        """
        if self.read(index, [object_id])[0].any():
            return "present"
        return "occluded" if self.whole(index, [object_id]).any() else "absent"


class SyntheticVideos(VideoList):
    """`config.videos` videos; number n is a function of (config, n) alone and is made each time it is indexed."""

    def __init__(self, config: SyntheticConfig) -> None:
        self.config = config

    def __len__(self) -> int:
        return self.config.videos

    def video(self, number: int) -> ReferringVideo:
        """Rendered when its frames are asked for."""
        return self.filmed(number, *self.program(number))

    def filmed(self, number: int, world: World, said: Sequence[Sentence]) -> ReferringVideo:
        """A world with the ground and light of video `number`; rendered when its frames are asked for."""
        config = self.config
        images = Images(config.textures) if config.textures else None
        moments = tuple(_moment(frame, config.frames) for frame in range(config.frames))
        seed = self._seed(number, _BACKDROP)
        renderer = Renderer(world, config.height, config.width, seed, moments, hard=config.hard, images=images)
        return ReferringVideo(
            id=f"synthetic-{config.seed}-{number:05d}",
            frames=SyntheticFrames(renderer, config),
            frame_names=tuple(f"{frame:05d}" for frame in range(config.frames)),
            expressions=tuple(
                Expression(str(order), sentence.text, sentence.object_ids, sentence.family)
                for order, sentence in enumerate(said)
            ),
            masks=SyntheticMasks(renderer, config.frames),
        )

    def program(self, index: int) -> tuple[World, tuple[Sentence, ...]]:
        """The world of video `index` and its sentences with the programs that decide their answers."""
        config = self.config
        split, world = self._drawn(index)
        verifier = Verifier(observe(world))
        quotas = QUOTAS[split] if split else plain_quotas(config.motion, config.no_target)
        said = draw_sentences(
            Draw(*self._seed(index, _SENTENCES)),
            verifier,
            config.expressions,
            quotas.shares,
            about=spoken_of(split, verifier),
            static=quotas.static,
            held_out=config.held_out,
        )
        return world, said

    def silent(self, index: int) -> tuple[World, ReferringVideo]:
        """Video `index` as it is, with no sentences, which take most of the time to find; and its world."""
        _, world = self._drawn(index)
        return world, self.filmed(index, world, ())

    def _drawn(self, index: int) -> tuple[Split | None, World]:
        """The split that video `index` is of, and its world."""
        config = self.config
        draw = Draw(*self._seed(index, _WORLD))
        things = config.min_objects + int(draw.between(0, config.max_objects - config.min_objects + 1))
        aspect = config.width / config.height
        split = draw.pick(SPLITS) if config.split == "mixed" else config.split
        if split is None:
            wishes = {name: draw.chance(getattr(config, name)) for name in ("twins", "late", "returning")}
            for _ in range(_ATTEMPTS):
                world = draw_world(draw, aspect, things, **wishes)
                if _is_fair(world):
                    break
        else:
            world = draw_scene(draw, split, aspect, things)
        if config.hard:
            world = harden(Draw(*self._seed(index, _HARDSHIP)), world)
        return split, world

    def _seed(self, index: int, part: int) -> tuple[int, ...]:
        """Of one part of a video. Splits share nothing: their videos of the same number are different worlds."""
        split = () if self.config.split is None else (1 + get_args(Split).index(self.config.split),)
        return self.config.seed, index, part, *split

    @staticmethod
    def all_sentences() -> Iterator[str]:
        """The language of these videos, for training a tokenizer: every word, and all short sentences."""
        return language.all_sentences()


def _is_fair(world: World) -> bool:
    """Whether every thing is well seen in a useful share of the video."""
    for thing in world.things:
        share = (world.tracks[thing.id].seen_T >= 0.5).mean()
        if share < (0.4 if thing.motion in ("late", "returning") else 0.65):
            return False
    return True


def _moment(index: int, frames: int) -> float:
    """Moment u of a frame of the video; IndexError outside it."""
    return range(frames)[index] / max(frames - 1, 1)
