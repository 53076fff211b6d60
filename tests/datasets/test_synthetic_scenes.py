"""Each split holds the events it is named after, as the rendered masks show them; counterparts begin alike."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from datasets.synthetic import SyntheticConfig, SyntheticVideos
from datasets.synthetic.draw import Draw
from datasets.synthetic.harden import harden
from datasets.synthetic.paths import Route, profile
from datasets.synthetic.render import Renderer
from datasets.synthetic.scenes import SPLITS, draw_scene
from datasets.synthetic.world import counterpart
from util.errors import InputError

HEIGHT, WIDTH, FRAMES = 48, 84, 49
MOMENTS = tuple(frame / (FRAMES - 1) for frame in range(FRAMES))


class Seen:
    """One thing of a world as its masks show it; lengths in heights, NaN where nothing of it is in the frame."""

    def __init__(self, thing, whole_THW, visible_THW):
        self.thing = thing
        self.look = (thing.shape, thing.colour, thing.texture, thing.radius)
        self.area_T = whole_THW.sum(axis=(1, 2))
        self.visible_T = visible_THW.sum(axis=(1, 2))
        self.there_T = self.area_T > 0
        y, x = np.mgrid[:HEIGHT, :WIDTH]
        with np.errstate(invalid="ignore", divide="ignore"):
            self.x_T = (whole_THW * x).sum(axis=(1, 2)) / self.area_T / HEIGHT
            self.y_T = (whole_THW * y).sum(axis=(1, 2)) / self.area_T / HEIGHT

    def moved(self, begin, end):
        return float(np.hypot(self.x_T[end] - self.x_T[begin], self.y_T[end] - self.y_T[begin]))


@cache
def scenes(split, hard=False, count=12):
    """Worlds of a split with what can be seen of their things."""
    made = []
    for number in range(count):
        world = draw_scene(Draw(8, number), split, WIDTH / HEIGHT, 3 + number % 3)
        if hard:
            world = harden(Draw(9, number), world)
        made.append((world, seen(world)))
    return made


def seen(world):
    renderer = Renderer(world, HEIGHT, WIDTH, (0,), MOMENTS)
    ids = [thing.id for thing in world.things]
    whole = np.stack([renderer.whole(u, ids) for u in MOMENTS], axis=1)
    labels = np.stack([renderer.labels(u) for u in MOMENTS])
    return [Seen(thing, mask, labels == thing.id) for thing, mask in zip(world.things, whole, strict=True)]


def with_motion(things, start):
    return sorted((one for one in things if one.thing.motion.startswith(start)), key=lambda one: one.thing.motion)


def alike(things):
    """Pairs of things that look the same."""
    return [(a, b) for order, a in enumerate(things) for b in things[:order] if a.look == b.look]


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("split", SPLITS)
def test_things_are_seen_for_most_of_their_time_in_the_picture(split, hard):
    for _, things in scenes(split, hard):
        assert (7 <= len(things) <= 8) if split == "crowd" else 3 <= len(things) <= 8
        for one in things:
            inside = one.there_T.sum()
            shown = one.visible_T > 0.4 * one.area_T
            assert inside >= FRAMES // 4
            assert shown[one.there_T].mean() > 0.6, one.thing.motion
            assert one.area_T.max() >= 40


def test_easy_things_differ_in_looks_and_stay():
    for _, things in scenes("easy"):
        assert not alike(things)
        assert all(one.there_T.all() for one in things)


@pytest.mark.parametrize("split", ["twins", "swap", "crowd", "long"])
def test_some_things_are_identical_and_apart_at_the_beginning(split):
    for _, things in scenes(split):
        pairs = alike(things)
        assert pairs
        for a, b in pairs:
            assert a.thing.angle == b.thing.angle and a.thing.spin == b.thing.spin
            assert np.hypot(a.x_T[0] - b.x_T[0], a.y_T[0] - b.y_T[0]) > a.thing.radius
            # Their ways differ clearly at some time, seen from where each began.
            apart = np.hypot((a.x_T - a.x_T[0]) - (b.x_T - b.x_T[0]), (a.y_T - a.y_T[0]) - (b.y_T - b.y_T[0]))
            assert np.nanmax(apart) > 0.1


@pytest.mark.parametrize("hard", [False, True])
def test_late_things_enter_one_after_another(hard):
    for _, things in scenes("late", hard):
        entering = with_motion(things, "enters")
        assert entering
        first = [int(np.flatnonzero(one.there_T)[0]) for one in entering]
        assert first[0] >= 2 and (np.diff(first) >= 5).all()
        assert all(one.there_T[begin:].all() for one, begin in zip(entering, first, strict=True))


@pytest.mark.parametrize("hard", [False, True])
def test_returning_things_are_away_in_between(hard):
    for _, things in scenes("reentry", hard):
        returning = with_motion(things, "returns")
        assert returning
        for one in returning:
            away = np.flatnonzero(~one.there_T)
            assert one.there_T[0] and one.there_T[-1]
            assert len(away) >= 5 and (np.diff(away) == 1).all()
        for one in with_motion(things, "leaves"):
            assert one.there_T[0] and not one.there_T[-4:].any()


def test_swapped_things_end_where_the_other_began_and_meet_on_the_way():
    for _, things in scenes("swap"):
        a, b = with_motion(things, "exchanges places")
        assert a.look == b.look
        for one, other in ((a, b), (b, a)):
            assert np.hypot(one.x_T[-1] - other.x_T[0], one.y_T[-1] - other.y_T[0]) < 0.1
            assert one.moved(0, -1) > 0.4
        apart = np.hypot(a.x_T - b.x_T, a.y_T - b.y_T)
        assert 0.5 * a.thing.radius < apart.min() < 1.6 * a.thing.radius


def test_events_of_two_happen():
    """Found in the splits that have them: who overtakes is first behind and then in front; who is hit moves then."""
    found = {"overtakes": 0, "is hit": 0, "follows": 0, "stops": 0, "starts": 0}
    for split in ("twins", "crowd"):
        for _, things in scenes(split, count=40):
            for fast, slow in zip(with_motion(things, "overtakes"), with_motion(things, "is overtaken"), strict=True):
                way = np.sign(fast.x_T[-1] - fast.x_T[0])
                lead = way * (fast.x_T - slow.x_T)
                assert lead[0] < -fast.thing.radius and lead[-1] > fast.thing.radius
                found["overtakes"] += 1
            for hit, hitting in zip(with_motion(things, "is hit"), with_motion(things, "hits"), strict=True):
                apart = np.hypot(hit.x_T - hitting.x_T, hit.y_T - hitting.y_T)
                meeting = int(apart.argmin())
                assert apart[meeting] < 2.1 * hit.thing.radius
                assert hit.moved(0, meeting) < 0.08 and hit.moved(meeting, -1) > 0.2
                found["is hit"] += 1
            for behind, ahead in zip(with_motion(things, "follows"), with_motion(things, "leads"), strict=True):
                delay = np.hypot(ahead.x_T[0] - behind.x_T[0], ahead.y_T[0] - behind.y_T[0])
                apart = np.hypot(ahead.x_T - behind.x_T, ahead.y_T - behind.y_T)
                assert apart.max() < 1.1 * delay and ahead.moved(0, -1) > 0.4
                found["follows"] += 1
            for name in ("stops", "starts"):
                timed = with_motion(things, f"{name} as")
                speeds = [np.hypot(np.diff(one.x_T), np.diff(one.y_T)) * (FRAMES - 1) for one in timed]
                moving = [np.convolve(speed, np.ones(5) / 5, "same") > 0.35 for speed in speeds]
                ends = [np.flatnonzero(row)[-1 if name == "stops" else 0] for row in moving]
                assert (np.diff(ends) >= 7).all(), (name, ends)
                found[name] += len(timed) > 1
    assert min(found.values()) >= 3, found


def test_long_videos_hold_several_events_of_each_thing():
    away = 0
    for _, things in scenes("long"):
        for one in things:
            phases = one.thing.motion.split(", ")
            assert len(phases) >= 5
            if "is away" in phases:
                away += 1
                assert 2 <= (~one.there_T).sum() <= 14
    assert away >= 8


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("split", ["twins", "late", "reentry", "swap", "crowd", "long"])
def test_a_counterpart_begins_with_the_same_frame_and_goes_on_differently(split, hard):
    for number, (world, things) in enumerate(scenes(split, hard)[:5]):
        other = counterpart(world)
        assert counterpart(other) == world
        pictures = [Renderer(one, HEIGHT, WIDTH, (number,), MOMENTS, hard=hard).frame(0.0) for one in (world, other)]
        # Only a shutter that is open at the first frame could tell what comes: by a pixel's smear, not by a place.
        assert np.abs(pictures[0].astype(int) - pictures[1]).mean() < (2 if hard else 1e-9)
        ids = [thing.id for thing in world.things]
        first, second = (Renderer(one, HEIGHT, WIDTH, (0,)).whole(0.0, ids) for one in (world, other))
        assert np.array_equal(first, second)
        apart = [
            np.nanmax(np.hypot(a.x_T - b.x_T, a.y_T - b.y_T)) if a.there_T.any() else 0.0
            for a, b in zip(things, seen(other), strict=True)
        ]
        assert max(apart) > 0.15


def test_exchanged_motions_are_those_of_the_other_twin():
    for world, _ in scenes("twins"):
        for thing in world.things:
            if thing.motion in ("left", "right", "still", "circling") and thing.instead.profile != thing.path.profile:
                profiles = [one.path.profile for one in world.things if one.id != thing.id]
                assert thing.instead.profile in profiles


def test_a_route_starts_where_it_says_and_passes_its_knots():
    route = Route((0.4, 0.6), profile((0.5, 0.3, 0.0, 2.0), (1, 0.3, -0.2, 2.0)))
    x, y, size = route.at(np.array([0.0, 0.25, 0.5, 0.75, 1.0]))
    assert (x[0], y[0], size[0]) == (0.4, 0.6, 1.0)
    assert np.allclose([x[1], y[1], size[1]], [0.55, 0.6, 1.5], atol=0.03)
    assert np.allclose([x[2], x[3], x[4]], 0.7, atol=0.03) and np.allclose([y[3], y[4]], [0.5, 0.4], atol=0.03)


def test_splits_and_hard_videos_of_a_number_are_worlds_of_their_own_with_the_same_events():
    config = SyntheticConfig(seed=5, videos=30, height=48, width=84)
    first = {split: SyntheticVideos(replace(config, split=split)).program(0)[0] for split in SPLITS}
    assert len({repr(world) for world in first.values()}) == len(SPLITS)
    plain = SyntheticVideos(replace(config, split="twins")).program(1)[0]
    hard = SyntheticVideos(replace(config, split="twins", hard=True)).program(1)[0]
    assert [thing.path for thing in plain.things] == [thing.path for thing in hard.things]
    mixed = [SyntheticVideos(replace(config, split="mixed")).program(number)[0] for number in range(12)]
    assert len({world.things[0].motion.split(" as ")[0] for world in mixed}) >= 5


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"split": "twins", "height": 80, "width": 80}, "wide"),
        ({"textures": "pictures"}, "hard"),
        ({"split": "twins", "min_objects": 1}, "min_objects"),
    ],
)
def test_impossible_splits_are_refused(bad, says):
    with pytest.raises(InputError, match=says):
        SyntheticConfig(**bad)
