"""Every sentence is true of exactly its referent, judged anew from its words and the rendered masks alone."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from datasets.synthetic import SyntheticConfig, SyntheticVideos
from datasets.synthetic.render import Renderer

CONFIG = SyntheticConfig(seed=21, videos=200, height=48, width=80)
VIDEOS = SyntheticVideos(CONFIG)

NOUNS = {name: ("shape", name) for name in ("circle", "square", "triangle", "star", "cross", "ring")}
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
WORDS = NOUNS | {name: ("colour", name) for name in COLOURS}
WORDS |= {name: ("texture", name) for name in ("plain", "striped", "dotted", "checkered")}
WORDS |= {"pattern": ("texture", "plain"), "stripes": ("texture", "striped")}
WORDS |= {"dots": ("texture", "dotted"), "checks": ("texture", "checkered")}
WORDS |= {"small": ("size", "small"), "little": ("size", "small"), "large": ("size", "large"), "big": ("size", "large")}
CLAUSES = {
    r"stays still|does not move|standing still|keeps its place": "still",
    r"left$": "left",
    r"right$": "right",
    r"moving up|goes up|rising|upwards": "up",
    r"moving down|goes down|sinking|downwards": "down",
    r"circling|round and round|loop": "circling",
    r"closer|bigger|grows|approaching": "approaching",
    r"away|smaller|shrinks|distance": "receding",
    r"later|at first|entering late": "late",
    r"comes? back|coming back|returns": "returning",
}


def understand(text):
    """The attributes a sentence names and its motion, by its words."""
    named = [WORDS[word] for word in text.split() if word in WORDS]
    motions = [motion for clause, motion in CLAUSES.items() if re.search(clause, text)]
    assert len(dict(named)) == len(named) and len(motions) <= 1, text
    return dict(named), motions[0] if motions else None


class Seen:
    """A thing as the masks of a whole video show it: visible, and drawn alone for where it is behind others."""

    def __init__(self, world, thing, visible_THW):
        alone = Renderer(replace(world, things=(thing,)), CONFIG.height, CONFIG.width, (0,))
        whole_THW = np.stack([alone.labels(frame / (CONFIG.frames - 1)) > 0 for frame in range(CONFIG.frames)])
        self.thing = thing
        self.area_T = whole_THW.sum(axis=(1, 2))
        self.visible_T = visible_THW.sum(axis=(1, 2))
        seen_T = self.visible_T > 0.3 * np.median(self.area_T[self.area_T > 0])
        self.out_T = self.area_T == 0
        self.in_T = seen_T
        centres, areas = [], []
        for mask in whole_THW[seen_T]:
            y, x = np.nonzero(mask)
            centres.append((x.mean() / CONFIG.height, y.mean() / CONFIG.height))
            # A mask cut by the border says nothing about size.
            if not (mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()):
                areas.append(mask.sum())
        self.centre_T2 = np.array(centres)
        self.size_T = np.sqrt(np.array(areas if len(areas) >= 4 else [1, 1]))

    def is_like(self, named):
        """None where a size is named but changes."""
        for attribute, value in named.items():
            if attribute != "size" and getattr(self.thing, attribute) != value:
                return False
        if "size" not in named:
            return True
        if self.size_T.max() > 1.3 * self.size_T.min():
            return None
        return ("small" if self.thing.radius < 0.14 else "large") == named["size"]

    def amount(self, motion):
        """A number that is above 1 where the motion is clearly made and below where it is not."""
        net = self.centre_T2[-1] - self.centre_T2[0]
        if motion in ("left", "right", "up", "down"):
            axis, sign = {"left": (0, -1), "right": (0, 1), "up": (1, -1), "down": (1, 1)}[motion]
            return 0.0 if self.amount("circling") > 1 else sign * net[axis] / 0.22
        if motion == "still":
            growth = self.size_T.max() / self.size_T.min()
            return min(0.13 / np.ptp(self.centre_T2, axis=0).max(), 1.25 / growth, 0.5 if self.out_T.any() else 9)
        if motion == "circling":
            x, y = self.centre_T2.T
            return abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2 / 0.035
        if motion in ("approaching", "receding"):
            growth = self.size_T[-1] / self.size_T[0]
            return (growth if motion == "approaching" else 1 / growth) / 1.4
        if motion == "late":
            return 2.0 if self.out_T[:3].all() and self.in_T[-6:].all() else 0.0 if self.in_T[0] else 1.0
        shown = np.flatnonzero(self.in_T)
        between = self.out_T[shown[0] : shown[-1]]
        return 2.0 if between.sum() >= 3 and self.in_T[0] and self.in_T[-1] else 1.0 if between.any() else 0.0


@cache
def scene(number):
    video = VIDEOS[number]
    world, _ = VIDEOS.program(number)
    ids = [thing.id for thing in world.things]
    visible = np.stack([video.masks.read(frame, ids)[0] for frame in range(CONFIG.frames)], axis=1)
    return video, [Seen(world, thing, masks) for thing, masks in zip(world.things, visible, strict=True)]


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_each_sentence_is_true_of_its_referent_and_of_nothing_else(first):
    for number in range(first, first + 20):
        video, things = scene(number)
        for expression in video.expressions:
            named, motion = understand(expression.text)
            likeness = [thing.is_like(named) for thing in things]
            assert None not in likeness, (number, expression)
            alike = [thing for thing, like in zip(things, likeness, strict=True) if like]
            if motion:
                assert len(alike) >= 2, "motion must decide between things that the other words share"
                true = [thing for thing in alike if thing.amount(motion) > 1]
                assert all(thing.amount(motion) != 1 for thing in alike), (number, expression)
            else:
                true = alike
            assert tuple(thing.thing.id for thing in true) == expression.object_ids, (number, expression)
            assert expression.type == ("no-target" if not true else "motion" if motion else "appearance")


def test_every_thing_has_a_look_alike_and_is_well_seen():
    for number in range(len(VIDEOS)):
        world, _ = VIDEOS.program(number)
        assert 3 <= len(world.things) <= 5
        assert sorted(thing.id for thing in world.things) == list(range(1, len(world.things) + 1))
        for thing in world.things:
            others = [other for other in world.things if other is not thing]
            assert any(thing.shape == other.shape or thing.colour == other.colour for other in others)
            assert (world.tracks[thing.id].seen_T > 0.5).mean() >= 0.4
            diameters = 2 * world.tracks[thing.id].radius_T
            assert diameters.min() > 0.16 and diameters.max() < 0.46


def test_late_and_returning_things_are_absent_in_the_masks():
    found = Counter()
    for number in range(60):
        video, things = scene(number)
        for seen in things:
            if seen.thing.motion not in ("late", "returning"):
                continue
            found[seen.thing.motion] += 1
            states = np.array([video.masks.read(frame, [seen.thing.id])[1][0] for frame in range(CONFIG.frames)])
            if seen.thing.motion == "late":
                assert (states[:3] == 0).all() and states[-1] == 1
            else:
                away = np.flatnonzero(states == 0)
                assert states[0] == 1 and len(away) >= 3 and states[away[-1] :].any()
    assert min(found["late"], found["returning"]) >= 8


def test_families_have_their_shares_and_sentences_differ():
    families: Counter[str] = Counter()
    motions: Counter[str] = Counter()
    texts = set()
    for number in range(len(VIDEOS)):
        said = VIDEOS.program(number)[1]
        assert len({sentence.text for sentence in said}) == len(said) >= 4
        families.update(sentence.family for sentence in said)
        motions.update(sentence.program.moves.motion for sentence in said if sentence.family == "motion")
        texts |= {sentence.text for sentence in said}
    total = sum(families.values())
    assert total > 0.97 * CONFIG.expressions * len(VIDEOS)
    assert abs(families["motion"] / total - CONFIG.motion) < 0.06
    assert abs(families["no-target"] / total - CONFIG.no_target) < 0.04
    assert len(texts) > 0.5 * total
    assert len(motions) == 10 and min(motions.values()) > 0.03 * sum(motions.values())


@pytest.mark.parametrize(
    ("motion", "no_target", "family"), [(0, 0, "appearance"), (1, 0, "motion"), (0, 1, "no-target")]
)
def test_shares_of_families_can_be_set(motion, no_target, family):
    videos = SyntheticVideos(replace(CONFIG, motion=motion, no_target=no_target, twins=0.5))
    families = Counter(sentence.family for number in range(30) for sentence in videos.program(number)[1])
    assert families[family] > 0.85 * sum(families.values())


def test_shares_of_worlds_can_be_set():
    for share in (0.0, 1.0):
        videos = SyntheticVideos(replace(CONFIG, twins=share, late=share, returning=share))
        for number in range(10):
            things = videos.program(number)[0].things
            motions = {thing.motion for thing in things}
            assert ("late" in motions) == ("returning" in motions) == bool(share)
            looks = Counter((thing.shape, thing.colour, thing.texture) for thing in things)
            assert not share or max(looks.values()) >= 2


def test_the_language_covers_what_is_said():
    language = list(VIDEOS.all_sentences())
    assert len(language) < 30_000
    words = {word for text in language for word in text.split()}
    said = {word for number in range(len(VIDEOS)) for one in VIDEOS.program(number)[1] for word in one.text.split()}
    assert said <= words and len(words) < 120
    assert len(set(language)) == len(language)
