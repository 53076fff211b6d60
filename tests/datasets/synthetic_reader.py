"""A reader of sentences that shares nothing with the program that wrote them: words by patterns, truth by full masks.

It knows no margins: each claim has one threshold, in the middle of what the verifier leaves out. So it answers every
sentence, and where a sentence is said it has to find the same things.
"""

from __future__ import annotations

import re
from itertools import permutations

import cv2
import numpy as np

from datasets.synthetic.world import covers

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
WORDS = {name: ("shape", name) for name in SHAPES} | {"crosses": ("shape", "cross")}
WORDS |= {f"{name}s": ("shape", name) for name in SHAPES if name != "cross"}
WORDS |= {name: ("colour", name) for name in ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")}
WORDS |= {name: ("texture", name) for name in ("plain", "striped", "dotted", "checkered")}
WORDS |= {"small": ("size", "small"), "little": ("size", "small"), "large": ("size", "large"), "big": ("size", "large")}
NOUNS = {*(word for word, (kind, _) in WORDS.items() if kind == "shape")}
NOUNS |= {"one", "ones", "object", "objects", "thing", "things"}
RANKS = {"first": 0, "second": 1, "third": 2, "last": -1}
NUMBERS = (("all the ", 0), ("all ", 0), ("every ", 0), ("the two ", 2), ("both ", 2), ("the three ", 3), ("the ", 1))
EVENTS = {
    "enters": r"enters? the picture|enters?|comes? in",
    "leaves": r"leaves? the picture|leaves?|goe?s? out",
    "returns": r"returns?|comes? back",
    "stops": r"stops?|comes? to a halt",
    "starts": r"starts? to move|sets? off",
    "turns": r"turns?|changes? direction",
}
# What a clause may begin with, the longer before the shorter.
MOTIONS = (
    ("returning", r"(that )?leav\w+ and com\w+ back|(that )?goe?s? out and returns?|that returns?"),
    ("leaving", r"that leaves? and stays? away|that leaves? the picture|going out of the picture"),
    ("late", r"that enters? later|that comes? in later|that (is|are) not there at first|entering late"),
    ("stopping", r"that moves? at first and stops? later|that stops?|coming to a halt"),
    ("starting", r"that stands? still at first and moves? later|that starts? to move|that sets? off later"),
    ("zigzag", r"(moving|going) in a zigzag|that zigzags?"),
    ("turning back", r"that turns? back|turning back|that goe?s? back the way (it|they) came"),
    ("turning", r"that changes? direction|changing (its|their) direction|that goe?s? another way later"),
    ("circling", r"circling|that goe?s? round and round|that turns? in a loop|moving around in a loop"),
    ("left", r"moving to the left|that moves? left|going left|that travels? to the left"),
    ("right", r"moving to the right|that moves? right|going right|that travels? to the right"),
    ("up", r"moving up|that goe?s? up|rising|that travels? upwards"),
    ("down", r"moving down|that goe?s? down|sinking|that travels? downwards"),
    ("approaching", r"coming closer|that gets? bigger|that grows?|approaching"),
    ("receding", r"moving away|that gets? smaller|that shrinks?|going into the distance"),
    ("still", r"that stays? still|standing still|that keeps? (its|their) place"),
)
MOVING = ("moving", r"that goe?s? somewhere|that (is|are) moving|that moves?(?= and |$)")
NEGATED = (
    ("returning", "leave and come back|go out and return"),
    ("leaving", "leave and stay away|leave the picture"),
    ("late", "enter later|come in later"),
    ("stopping", "stop|come to a halt"),
    ("starting", "start to move|set off later"),
    ("zigzag", "zigzag|move in a zigzag"),
    ("turning back", "turn back|go back the way (it|they) came"),
    ("turning", "change direction|change (its|their) direction"),
    ("circling", "go round and round|turn in a loop"),
    ("left", "move left|travel to the left"),
    ("right", "move right|travel to the right"),
    ("up", "go up|travel upwards"),
    ("down", "go down|travel downwards"),
    ("approaching", "get bigger|grow"),
    ("receding", "get smaller|shrink"),
    ("still", "stay still|keep (its|their) place"),
    ("moving", "move|go anywhere"),
)
RELATIONS = (
    ("left of", r"(that (is|are) )?to the left of|left of"),
    ("right of", r"(that (is|are) )?to the right of|right of"),
    ("above", r"(that (is|are) )?above|higher than"),
    ("below", r"(that (is|are) )?below|lower than"),
    ("follows", r"(that )?follow(s|ing)?|that goe?s? after|going the same way after"),
    ("overtakes", r"(that )?overtak(es?|ing)|that gets? ahead of"),
    ("collides", r"(that )?collid(es?|ing) with|that bumps? into"),
    ("crosses", r"(that )?cross(es|ing)?|that moves? across"),
    ("faster", r"(that (is|are|moves?) )?faster than"),
    ("slower", r"(that (is|are|moves?) )?slower than"),
)
MUTUAL = (
    ("exchange", r"that exchange places|that swap places|exchanging places with each other"),
    ("cross", r"that cross( each other)?|crossing each other"),
    ("collide", r"that collide|that bump into each other|colliding with each other"),
)
PLACES = {
    "farthest to the left": (0, -1),
    "farthest to the right": (0, 1),
    "farthest up": (1, -1),
    "farthest down": (1, 1),
}


def read(text: str, things: list[Seen]) -> tuple[int, list[Seen]]:
    """The number that a sentence speaks of (0: all there are) and the things that it is true of."""
    start, number = next((start, number) for start, number in NUMBERS if text.startswith(start))
    words = text[len(start) :].split()
    noun = next(place for place, word in enumerate(words) if word in NOUNS)
    before, rest = words[:noun], " ".join(words[noun + 1 :])
    named = [WORDS[word] for word in (*before, words[noun]) if word in WORDS]
    if match := re.match(r"without a pattern|with (stripes|dots|checks)", rest):
        named.append(
            ("texture", {"stripes": "striped", "dots": "dotted", "checks": "checkered"}.get(match[1], "plain"))
        )
        rest = rest[match.end() :].strip()
    listed = rest.removeprefix("that is ").removeprefix("that are ").split(" and ")
    if rest.startswith("that ") and all(word in WORDS for word in listed):
        named, rest = named + [WORDS[word] for word in listed], ""
    assert len(dict(named)) == len(named), text
    found = [thing for thing in things if all(thing.looks(*one) for one in named)]
    ranks = [word for word in before if word in (*RANKS, "fastest", "slowest")]
    return number, _clauses(rest, found, things, ranks[0] if ranks else "")


def _clauses(rest: str, found: list[Seen], things: list[Seen], rank: str) -> list[Seen]:
    while rest:
        rest = rest.removeprefix("and ")
        for kinds, judge in (((*MOTIONS, MOVING), lambda one, name: one.does(name)),):
            for name, pattern in kinds:
                match = re.match(rf"({pattern})(?= and |$)", rest)
                if match:
                    found, rest = [one for one in found if judge(one, name)], rest[match.end() :].strip()
                    break
            else:
                continue
            break
        else:
            return _last(rest, found, things, rank)
    if rank:
        assert rank in ("fastest", "slowest")
        return _extreme(found, lambda one: one.speed() if rank == "fastest" else -one.speed())
    return found


def _last(rest: str, found: list[Seen], things: list[Seen], rank: str) -> list[Seen]:
    """A clause that can only come last."""
    if match := re.fullmatch(r"(?:that|which) (?:does|do) not (.+)", rest):
        name = next(name for name, pattern in NEGATED if re.fullmatch(pattern, match[1]))
        return [one for one in found if not one.does(name)]
    if match := re.fullmatch(r"(?:(?:that|which) (?:is|are) not|other than) (?:a )?(\w+)", rest):
        return [one for one in found if not one.looks(*WORDS[match[1]])]
    if rank and (match := re.fullmatch(r"to (.+)", rest)):
        return _ranked(found, _event(match[1]), rank)
    if match := re.fullmatch(r"that is the (\w+) to (.+)", rest):
        return _ranked(found, _event(match[2]), match[1])
    if match := re.fullmatch(r"that (?:moves (fastest|slowest)|is the (fastest|slowest))", rest):
        sign = 1 if "fastest" in rest else -1
        return _extreme(found, lambda one: sign * one.speed())
    if match := re.fullmatch(
        r"that (starts|ends|is) (farthest [a-z ]+?)( at first| (?:at|in) the (?:start|end))?", rest
    ):
        axis, sign = PLACES[match[2]]
        moment = -1 if match[1] == "ends" or (match[3] or "").endswith("end") else 0
        return _extreme(found, lambda one: sign * one.centre_T2[moment, axis])
    for name, pattern in MUTUAL:
        if re.fullmatch(pattern, rest):
            pairs = [pair for pair in permutations(found, 2) if related(name, *pair)]
            return [one for one in found if any(one is pair[0] for pair in pairs)]
    if match := re.fullmatch(r"that (.+) (first|second|third|last)", rest):
        return _ranked(found, _event(match[1]), match[2])
    for name, pattern in RELATIONS:
        if match := re.match(rf"({pattern}) (?=the )", rest):
            others = read(rest[match.end() :], things)[1]
            assert len(others) <= 1, rest
            return [one for one in found if others and one is not others[0] and related(name, one, others[0])]
    if match := re.fullmatch(r"(?:that|which) (.+?) (before|after) (the .+)", rest):
        return _timed(found, things, _event(match[1]), match[2], match[3])
    raise AssertionError(f"cannot read {rest!r}")


def _event(words: str) -> str:
    return next(name for name, pattern in EVENTS.items() if re.fullmatch(pattern, words))


def _extreme(found: list[Seen], key) -> list[Seen]:
    return [max(found, key=key)]


def _ranked(found: list[Seen], event: str, rank: str) -> list[Seen]:
    happened = sorted((one for one in found if one.event(event) is not None), key=lambda one: one.event(event))
    place = RANKS[rank]
    return [happened[place]] if -len(happened) <= place < len(happened) else []


def _timed(found: list[Seen], things: list[Seen], event: str, when: str, rest: str) -> list[Seen]:
    for other_event, pattern in (*EVENTS.items(), (event, "")):
        match = re.fullmatch(rf"(the .+?) ?({pattern})", rest)
        if match:
            try:
                others = read(match[1], things)[1]
            except (AssertionError, StopIteration):
                continue  # what was taken for the event belongs to the description
            mark = others[0].event(other_event) if len(others) == 1 else None
            if mark is None:
                continue
            sign = 1 if when == "before" else -1
            timed = [(one, one.event(event)) for one in found if one is not others[0]]
            return [one for one, moment in timed if moment is not None and sign * (mark - moment) > 0]
    raise AssertionError(f"cannot read {rest!r}")


class Seen:
    """A thing as the full masks of a whole video show it; times are shares of the video, lengths heights."""

    def __init__(self, world, order, visible_THW):
        frames, height, width = visible_THW.shape
        self.thing = world.things[order]
        self.step = 1 / (frames - 1)
        # Whole masks on a canvas wider than the frame: a thing that the border cuts has its true place.
        margin = int(0.3 * height)
        y, x = np.mgrid[-margin : height + margin, -margin : width + margin].astype(np.float32)
        poses = world.poses(np.linspace(0, 1, frames))[order]
        self.radius_T = poses[2]
        points = ((grid.ravel()[None] + 0.5) / height for grid in (x, y))
        self.whole_THW = covers(self.thing.shape, poses, *points).reshape(frames, *y.shape)
        self.inner_THW = self.whole_THW[:, margin:-margin, margin:-margin]
        area_T = np.maximum(self.whole_THW.sum(axis=(1, 2)), 1)
        self.out_T = ~self.inner_THW.any(axis=(1, 2))
        self.in_T = visible_THW.sum(axis=(1, 2)) > 0.3 * area_T
        rows, columns = self.whole_THW.sum(axis=2), self.whole_THW.sum(axis=1)
        self.centre_T2 = (np.stack([columns @ x[0], rows @ y[:, 0]], axis=1) / area_T[:, None] + 0.5) / height
        self.size_T = np.sqrt(area_T) / height
        shown = np.flatnonzero(self.in_T)
        self.span = slice(shown[0], shown[-1] + 1)
        self.way_T2 = self.centre_T2[self.in_T]

    def looks(self, attribute, value):
        if attribute != "size":
            return getattr(self.thing, attribute) == value
        return value == ("small" if np.median(self.radius_T[self.in_T]) < 0.133 else "large")

    def speed(self):
        steps = np.hypot(*np.diff(self.centre_T2, axis=0).T)[self.in_T[1:] & self.in_T[:-1]]
        return steps.mean() / self.step

    def does(self, motion):
        net = self.way_T2[-1] - self.way_T2[0]
        extent = np.ptp(self.way_T2, axis=0).max()
        if motion in ("left", "right", "up", "down"):
            axis, sign = {"left": (0, -1), "right": (0, 1), "up": (1, -1), "down": (1, 1)}[motion]
            return sign * net[axis] > 0.2 and not self.does("circling") and not self.out_T[self.span].any()
        growth = self.size_T[self.in_T][-1] / self.size_T[self.in_T][0]
        if motion in ("approaching", "receding"):
            return (growth if motion == "approaching" else 1 / growth) > 1.4
        if motion in ("still", "moving"):
            still = extent < 0.13 and 1 / 1.25 < growth < 1.25 and not self.out_T.any()
            return still == (motion == "still")
        if motion == "circling":
            return abs(self.turned()) > 0.55 and not self.out_T[self.span].any()
        if motion in ("late", "leaving"):
            return bool(self.out_T[:2].all() if motion == "late" else self.out_T[-2:].all())
        if motion == "returning":
            return bool(self.out_T[self.span].any())
        if motion in ("stopping", "starting"):
            return self.event("stops" if motion == "stopping" else "starts") is not None
        corners = self.corners()
        if self.does("circling"):
            return False
        if motion == "turning":
            return bool(corners)
        return len(corners) >= 3 if motion == "zigzag" else len(corners) == 1 and corners[0][1] > 130

    def headings(self, seconds):
        """Angles of the way over this share of the video from each frame on, and whether it moves."""
        arm = max(round(seconds / self.step), 1)
        way = self.centre_T2[arm:] - self.centre_T2[:-arm]
        return arm, np.arctan2(way[:, 1], way[:, 0]), np.hypot(*way.T) / (arm * self.step) > 0.33

    def turned(self):
        """Full turns of the direction, added up, going straight back left out."""
        _, angle, moves = self.headings(0.034)
        change = np.diff(angle[moves])
        change = (change + np.pi) % (2 * np.pi) - np.pi
        return change[np.abs(change) < 2.2].sum() / (2 * np.pi)

    def corners(self):
        """Moments and sizes in degrees of changes of direction by more than 55 degrees."""
        arm, angle, moves = self.headings(0.13)
        change = np.degrees((angle[arm:] - angle[:-arm] + np.pi) % (2 * np.pi) - np.pi)
        sharp = np.where(moves[arm:] & moves[:-arm] & self.in_T[: -2 * arm] & self.in_T[2 * arm :], np.abs(change), 0)
        found = []
        while sharp.max() > 55:
            top = int(sharp.argmax())
            found.append(((top + arm) * self.step, sharp[top]))
            sharp[max(top - arm * 4 // 5, 0) : top + arm * 4 // 5 + 1] = 0
        return sorted(found)

    def event(self, event):
        """When it happens, as a share of the video, or None."""
        if event == "enters":
            return self.span.start * self.step if self.does("late") else None
        if event == "leaves":
            return self.span.stop * self.step if self.does("leaving") else None
        if event == "returns":
            away = np.flatnonzero(self.out_T[self.span])
            return (self.span.start + away[-1] + 1) * self.step if len(away) else None
        if event == "turns":
            return self.corners()[0][0] if self.does("turning") else None
        window = round(0.2 / self.step)
        order = slice(None) if event == "stops" else slice(None, None, -1)
        way, seen = self.centre_T2[order], self.in_T[order]
        moving = False
        for first in range(len(way) - window):
            if not seen[first : first + window + 1].all():
                continue
            extent = np.hypot(*np.ptp(way[first : first + window + 1], axis=0))
            if extent > 0.095:
                moving = True
            elif moving and extent < 0.055:
                moment = (first + 0.02 / self.step) * self.step
                return moment if event == "stops" else 1 - moment
        return None


def related(kind, one, other):
    """Whether `one` stands in this relation to `other`."""
    joint_T = one.in_T & other.in_T
    apart_T2 = one.centre_T2 - other.centre_T2
    if kind in ("left of", "right of", "above", "below"):
        axis, sign = {"left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1)}[kind]
        return np.median(sign * apart_T2[joint_T, axis]) > 0.065
    if kind in ("faster", "slower"):
        return (one.speed() > other.speed()) == (kind == "faster")
    if kind == "exchange":
        missed = [a.centre_T2[-1] - b.centre_T2[0] for a, b in ((one, other), (other, one))]
        return max(np.hypot(*each) for each in missed) < 0.17 and np.hypot(*apart_T2[0]) > 0.18
    if kind == "follows":
        away = []
        for lag in range(round(0.06 / one.step), round(0.55 / one.step)):
            both = one.in_T[lag:] & other.in_T[:-lag]
            if both.sum() * one.step > 0.35:
                away.append(np.hypot(*(one.centre_T2[lag:] - other.centre_T2[:-lag])[both].T).mean())
        return bool(away) and min(away) < 0.11 and one.speed() > 0.25 and _behind(one, other, joint_T)
    if kind == "overtakes":
        ways = [thing.centre_T2[joint_T][-1] - thing.centre_T2[joint_T][0] for thing in (one, other)]
        heading = sum(way / np.hypot(*way) for way in ways)
        ahead_T = apart_T2[joint_T] @ (heading / np.hypot(*heading))
        alike = ways[0] @ ways[1] > 0.6 * np.hypot(*ways[0]) * np.hypot(*ways[1])
        return alike and ahead_T[0] < -0.06 and ahead_T[-1] > 0.06
    return _meeting(one, other) == ("collide" if kind.startswith("collide") else "cross")


def _behind(one, other, joint_T):
    way_T2 = np.gradient(one.centre_T2, axis=0)
    return ((other.centre_T2 - one.centre_T2)[joint_T] * way_T2[joint_T]).sum(axis=1).mean() > 0


def _meeting(one, other):
    """ "collide", "cross" or "" by where the two come closest."""
    apart_T = np.hypot(*(one.centre_T2 - other.centre_T2).T)
    shared_T = (one.inner_THW & other.inner_THW).sum(axis=(1, 2))
    smaller = min(one.inner_THW.sum(axis=(1, 2)).max(), other.inner_THW.sum(axis=(1, 2)).max())
    kernel = np.ones((9, 9), np.uint8)
    wide_THW = [cv2.dilate(mask.astype(np.uint8), kernel) > 0 for mask in one.inner_THW]
    near_T = np.array([(wide & mask).any() for wide, mask in zip(wide_THW, other.inner_THW, strict=True)])
    if not near_T.any():
        return ""
    arm, last = round(0.13 / one.step), len(apart_T) - 1
    met = int(np.where(near_T, apart_T, np.inf).argmin())
    changes = []
    for thing in (one, other):
        early, late = (
            thing.centre_T2[min(max(met + shift + arm, 0), last)] - thing.centre_T2[min(max(met + shift, 0), last)]
            for shift in (-8 * arm // 5, 3 * arm // 5)
        )
        changes.append(np.hypot(*(late - early)) / (arm * one.step))
    if shared_T.max() > 0.25 * smaller:
        return "cross" if max(changes) < 0.6 else ""
    return "collide" if min(changes) > 0.3 else ""
