"""The verifier on videos drawn by hand: discs along given ways, every answer known; doubt where something is hidden."""

from __future__ import annotations

import numpy as np
import pytest

from datasets.synthetic import SyntheticConfig, SyntheticVideos
from datasets.synthetic.observed import MARGIN, ROWS, Named, Observed, observe
from datasets.synthetic.program import (
    ALL,
    MOTIONS,
    Look,
    Most,
    Moves,
    Mutual,
    Not,
    Order,
    Placed,
    Program,
    Relation,
    Timing,
)
from datasets.synthetic.verifier import Verifier

T = 24
U = np.linspace(0, 1, T)
WIDTH = 80
COLOURS = ("red", "blue", "green", "pink")


def way(*knots):
    """Places at each moment, by knots (u, x, y)."""
    u, x, y = np.array(knots, float).T
    return np.stack([np.interp(U, u, x), np.interp(U, u, y)], axis=1)


def filmed(*ways, radius=0.1, hidden=None):
    """Circles along ways, coloured in the order of COLOURS with ids from 1; `hidden` [T, H, W] covers what it marks."""
    radii = np.broadcast_to(radius, (len(ways), T))
    y, x = (np.mgrid[: ROWS + 2 * MARGIN, : WIDTH + 2 * MARGIN] + 0.5 - MARGIN) / ROWS
    places = np.array(ways)[:, :, :, None, None]
    whole = np.hypot(x - places[:, :, 0], y - places[:, :, 1]) < radii[:, :, None, None]
    labels = np.zeros((T, ROWS, WIDTH), np.uint8)
    for number, mask in enumerate(whole):
        labels[mask[:, MARGIN:-MARGIN, MARGIN:-MARGIN]] = number + 1
    if hidden is not None:
        labels[hidden] = 0
    things = tuple(Named(number + 1, "circle", COLOURS[number], "plain") for number in range(len(ways)))
    return Observed(things, whole, labels)


STILL = way((0, 0.8, 0.5), (1, 0.8, 0.5))
LEFT, RIGHT = way((0, 1.4, 0.2), (1, 0.3, 0.2)), way((0, 0.3, 0.8), (1, 1.4, 0.8))
ANGLE = 2 * np.pi * 1.5 * U
WAYS = {
    "still": STILL,
    "left": LEFT,
    "right": RIGHT,
    "up": way((0, 0.8, 0.9), (1, 0.8, 0.2)),
    "down": way((0, 0.8, 0.2), (1, 0.8, 0.9)),
    "circling": np.stack([0.8 + 0.2 * np.cos(ANGLE), 0.5 + 0.2 * np.sin(ANGLE)], axis=1),
    "stopping": way((0, 0.3, 0.5), (0.5, 1.0, 0.5), (1, 1.0, 0.5)),
    "starting": way((0, 0.3, 0.5), (0.5, 0.3, 0.5), (1, 1.0, 0.5)),
    "turning": way((0, 0.3, 0.2), (0.5, 0.9, 0.2), (1, 0.9, 0.8)),
    "turning back": way((0, 0.3, 0.5), (0.5, 1.0, 0.5), (1, 0.32, 0.5)),
    "zigzag": way((0, 0.2, 0.4), (0.25, 0.5, 0.7), (0.5, 0.8, 0.4), (0.75, 1.1, 0.7), (1, 1.4, 0.4)),
    "late": way((0, -0.2, 0.5), (0.3, -0.2, 0.5), (0.7, 0.8, 0.5), (1, 0.8, 0.5)),
    "leaving": way((0, 0.8, 0.5), (0.3, 0.8, 0.5), (0.7, -0.2, 0.5), (1, -0.2, 0.5)),
    "returning": way((0, 0.3, 0.5), (0.2, -0.2, 0.5), (0.7, -0.2, 0.5), (1, 0.4, 0.5)),
}
ALSO = {
    "left": {"moving"},
    "right": {"moving"},
    "up": {"moving"},
    "down": {"moving"},
    "circling": {"moving"},
    "stopping": {"moving", "right"},
    "starting": {"moving", "right"},
    "turning": {"moving"},
    "turning back": {"moving", "turning"},
    "zigzag": {"moving", "turning", "right"},
    "late": {"moving", "right", "stopping"},
    "leaving": {"moving", "left", "starting"},
    "returning": {"moving"},
}
REVERSED = {"left": "right", "up": "down", "stopping": "starting", "late": "leaving", "approaching": "receding"}
REVERSED |= {after: before for before, after in REVERSED.items()}


def true_motions(observed):
    verifier = Verifier(observed)
    return {motion for motion in MOTIONS if verifier.truths(Program((Moves(motion),)))[1]}


@pytest.mark.parametrize("motion", WAYS)
def test_each_motion_is_seen_and_no_other(motion):
    seen = true_motions(filmed(WAYS[motion]))
    assert {motion} <= seen <= {motion} | ALSO.get(motion, set())


@pytest.mark.parametrize("motion", WAYS)
def test_backwards_motions_are_their_opposites(motion):
    observed = filmed(WAYS[motion])
    assert true_motions(observed.reversed()) == {REVERSED.get(name, name) for name in true_motions(observed)}
    again = observed.reversed().reversed()
    assert np.array_equal(again.labels_THW, observed.labels_THW)


def test_growing_is_approaching_and_backwards_receding():
    observed = filmed(STILL, radius=np.linspace(0.09, 0.18, T))
    assert true_motions(observed) == {"approaching"} and true_motions(observed.reversed()) == {"receding"}


def test_what_is_only_a_little_of_a_motion_is_arguable():
    for little in (way((0, 0.8, 0.5), (1, 0.97, 0.5)), way((0, 0.8, 0.5), (1, 0.8, 0.62))):
        truths = [Verifier(filmed(little)).truths(Program((Moves(motion),)))[1] for motion in MOTIONS]
        assert truths.count(None) >= 1 and True not in truths


def test_what_happens_behind_something_is_arguable():
    hidden = np.zeros((T, ROWS, WIDTH), bool)
    hidden[8:17] = True
    verifier = Verifier(filmed(WAYS["turning"], WAYS["stopping"], hidden=hidden))
    assert verifier.truths(Program((Moves("turning"),)))[1] is None
    assert verifier.truths(Program((Moves("starting"),)))[2] is None
    assert verifier.truths(Program((Moves("right"),)))[2] is True


def test_relations():
    crossing = way((0, 0.3, 0.5), (1, 1.3, 0.5)), way((0, 0.8, 0.0), (1, 0.8, 1.0))
    follow = way((0, 0.5, 0.3), (1, 1.5, 0.3)), way((0, 0.2, 0.3), (1, 1.2, 0.3))
    overtake = way((0, 0.2, 0.3), (1, 1.5, 0.3)), way((0, 0.5, 0.6), (1, 0.9, 0.6))
    bounce = way((0, 0.2, 0.5), (0.5, 0.7, 0.5), (1, 0.2, 0.5)), way((0, 1.4, 0.5), (0.5, 0.9, 0.5), (1, 1.4, 0.5))
    swap = way((0, 0.4, 0.3), (1, 1.2, 0.7)), way((0, 1.2, 0.7), (0.5, 1.2, 0.2), (1, 0.4, 0.3))

    def holds(kind, ways):
        verifier = Verifier(filmed(*ways))
        return [
            verifier.truths(Program((Relation(kind, Program((Look("colour", other),))),)))[thing]
            for thing, other in ((1, "blue"), (2, "red"))
        ]

    assert holds("crosses", crossing) == [True, True] and holds("crosses", (LEFT, RIGHT))[0] is not True
    assert holds("collides", bounce) == [True, True] and holds("collides", crossing) != [True, True]
    assert holds("collides", (LEFT, RIGHT)) == [False, False] and holds("crosses", bounce) == [False, False]
    assert holds("follows", follow) == [False, True] or holds("follows", follow) == [None, True]
    assert holds("overtakes", overtake) == [True, False] and holds("overtakes", (LEFT, RIGHT)) == [False, False]
    assert holds("faster", overtake) == [True, False] and holds("slower", overtake) == [False, True]
    assert holds("left of", (STILL - np.array((0.4, 0)), STILL)) == [True, False]
    assert holds("above", (LEFT, RIGHT)) == [None, False], "at its sides it is beside rather than above"
    assert holds("left of", (LEFT, RIGHT)) == [None, None], "only at times"
    pair = Verifier(filmed(*swap, STILL + np.array((0.5, 0.3))))
    assert pair.referents(Program((Mutual("exchange"),), 2)) == (1, 2)
    assert pair.referents(Program((Mutual("exchange"),), 3)) is None


def test_order_and_time():
    stops = [way((0, 0.2, y), (end, 1.0, y), (1, 1.0, y)) for end, y in ((0.3, 0.2), (0.5, 0.5), (0.7, 0.8))]
    verifier = Verifier(filmed(*stops))
    assert [verifier.referents(Program((Order("stops", rank),))) for rank in (1, 2, 3, -1)] == [(1,), (2,), (3,), (3,)]
    backwards = Verifier(verifier.observed.reversed())
    assert [backwards.referents(Program((Order("starts", rank),))) for rank in (1, 2, 3, -1)] == [
        (3,),
        (2,),
        (1,),
        (1,),
    ]
    assert backwards.referents(Program((Order("stops", 1),))) == ()
    not_red = (Not(Look("colour", "red")), Order("stops", 1))
    assert verifier.referents(Program(not_red)) == (2,), "the first of those that are not red"
    blue = Program((Look("colour", "blue"),))
    assert verifier.referents(Program((Timing("stops", "before", blue, "stops"),))) == (1,)
    assert verifier.referents(Program((Timing("stops", "after", blue, "stops"),))) == (3,)
    close = [way((0, 0.2, y), (end, 1.0, y), (1, 1.0, y)) for end, y in ((0.5, 0.2), (0.53, 0.8))]
    assert Verifier(filmed(*close)).referents(Program((Order("stops", 1),))) is None


def test_ranks_and_numbers():
    verifier = Verifier(filmed(LEFT, RIGHT, STILL))
    circles = Program((Look("shape", "circle"),))
    assert verifier.referents(circles) is None, "one is spoken of and there are three"
    assert (
        verifier.referents(Program(circles.claims, 3)) == verifier.referents(Program(circles.claims, ALL)) == (1, 2, 3)
    )
    assert verifier.referents(Program(circles.claims, 2)) is None
    assert verifier.referents(Program((Look("shape", "star"),), ALL)) == ()
    assert verifier.referents(Program((Placed("start", "left"),))) == (2,)
    assert verifier.referents(Program((Placed("end", "left"),))) == (1,)
    assert verifier.referents(Program((Moves("moving"), Placed("end", "right")))) == (2,)
    assert verifier.referents(Program((Most("slowest"),))) is None, "whether what stands is slow is arguable"
    nobody = Relation("follows", Program((Look("colour", "pink"),)))
    assert verifier.referents(Program((nobody,))) == ()
    anybody = Relation("follows", circles)
    assert verifier.referents(Program((anybody,))) is None


def test_size_is_measured():
    sizes = np.array([0.105, 0.16, 0.132])[:, None]
    verifier = Verifier(filmed(LEFT, RIGHT, STILL, radius=sizes))
    assert verifier.truths(Program((Look("size", "small"),))) == {1: True, 2: False, 3: None}
    assert verifier.truths(Program((Look("size", "large"),))) == {1: False, 2: True, 3: None}


def test_a_single_frame_holds_what_is_seen_in_it_and_no_time():
    observed = filmed(WAYS["late"], STILL + np.array((0.4, 0)))
    assert [thing.id for thing in observed.still(0).things] == [2]
    last = Verifier(observed.still(T - 1))
    assert last.referents(Program((Relation("left of", Program((Look("colour", "blue"),))),))) == (1,)
    assert last.truths(Program((Moves("late"),)))[1] is None
    for motion in ("left", "stopping", "circling", "moving"):
        assert set(last.truths(Program((Moves(motion),))).values()) == {None}


def test_tracks_are_those_of_the_world():
    videos = SyntheticVideos(SyntheticConfig(seed=4, split="mixed"))
    for number in range(12):
        world, _ = videos.program(number)
        measured = observe(world).tracks
        for order, thing in enumerate(world.things):
            track = world.tracks[thing.id]
            seen = track.seen_T >= 0.3
            assert np.abs(measured.centre_NT2[order, seen] - track.centre_T2[seen]).max(initial=0) < 0.012
            assert np.abs(measured.radius_NT[order, seen] / track.radius_T[seen] - 1).max(initial=0) < 0.12
            assert np.abs(measured.seen_NT[order] - track.seen_T).max() < 0.2
            assert not measured.gone_NT[order, seen].any()


def test_the_verifier_sees_masks_and_names_only():
    """Another motion's name, path or camera behind the same masks changes nothing."""
    fields = set(Observed.__dataclass_fields__) | set(Named.__dataclass_fields__)
    assert fields == {"things", "whole_NTHW", "labels_THW", "id", "shape", "colour", "texture"}
