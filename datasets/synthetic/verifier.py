"""The answer of a program in a video, by what can be observed of it and nothing else.

A set of things is a whole number whose bit i stands for the i-th thing. A verdict is two sets: the things of which a
claim is true, and those of which it may be; what lies between is arguable. So claims are joined by `&`, and a program's
answer is settled where both sets are the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from .motions import Motions, Truth, between
from .observed import Observed
from .program import ALL, Claim, Look, Most, Moves, Mutual, Not, Order, Placed, Program, Relation, Timing
from .relations import Relations

_GAP = 2.0  # moments between two events whose order is beyond doubt
_FASTER = 1.5  # how many times as fast as all others the fastest is
_PLACED = 0.12  # heights by which the leftmost lies left of all others


class Verdict(NamedTuple):
    """Sets of things, as bits: `yes` meet a claim, `maybe` meet it or are arguable. yes is a part of maybe."""

    yes: int
    maybe: int

    def both(self, other: Verdict) -> Verdict:
        return Verdict(self.yes & other.yes, self.maybe & other.maybe)


class Verifier:
    """Judges claims about one video, each once."""

    def __init__(self, observed: Observed) -> None:
        self.observed = observed
        self.everything = (1 << len(observed.things)) - 1
        self._motions = Motions(observed.tracks)
        self._relations = Relations(observed, self._motions)
        self._claims: dict[Claim, Verdict] = {}

    def referents(self, program: Program) -> tuple[int, ...] | None:
        """Ids that the sentence means, ascending, () for no target; None where arguable or of a wrong number."""
        verdict = self.verdict(program)
        if verdict.yes != verdict.maybe:
            return None
        count = verdict.yes.bit_count()
        fits = count >= 2 if program.number == ALL else count == program.number
        return self.ids(verdict.yes) if fits or not count else None

    def truths(self, program: Program) -> dict[int, Truth]:
        """Whether each thing, by id, meets the program's claims; the sentence's number is left aside."""
        yes, maybe = self.verdict(program)
        return {
            thing.id: True if yes >> order & 1 else None if maybe >> order & 1 else False
            for order, thing in enumerate(self.observed.things)
        }

    def ids(self, things: int) -> tuple[int, ...]:
        """Ids of a set of things, ascending."""
        return tuple(sorted(thing.id for order, thing in enumerate(self.observed.things) if things >> order & 1))

    @property
    def absent_at_first(self) -> int:
        """The things of which nothing lies in the frame at the first moment."""
        return _bits(np.flatnonzero(self._motions.gone_NT[:, 0]).tolist())

    def verdict(self, program: Program) -> Verdict:
        base = Verdict(self.everything, self.everything)
        for claim in program.claims:
            if not isinstance(claim, Most | Placed | Order | Mutual):
                base = base.both(self.claim(claim))
        return self.among(
            base, [claim for claim in program.claims if isinstance(claim, Most | Placed | Order | Mutual)]
        )

    def claim(self, claim: Claim) -> Verdict:
        """Of which things a claim that does not depend on a set holds."""
        if claim not in self._claims:
            self._claims[claim] = self._judge(claim)
        return self._claims[claim]

    def among(self, base: Verdict, claims: Iterable[Most | Placed | Order | Mutual]) -> Verdict:
        """Of which things of a set the claims hold that depend on the set; arguable of all where the set is."""
        verdict = base
        for claim in claims:
            if base.yes != base.maybe:
                return Verdict(0, base.maybe)
            members = [order for order in range(len(self.observed.things)) if base.yes >> order & 1]
            verdict = verdict.both(self._ranked(claim, members))
        return verdict

    def _judge(self, claim: Claim) -> Verdict:
        if isinstance(claim, Not):
            yes, maybe = self.claim(claim.claim)
            return Verdict(self.everything & ~maybe, self.everything & ~yes)
        if isinstance(claim, Look):
            return _verdict(self._look(claim, order) for order in range(len(self.observed.things)))
        if isinstance(claim, Moves):
            return _verdict(self._motions.motion(claim.motion))
        assert isinstance(claim, Relation | Timing)
        yes, maybe = self.verdict(claim.other)
        if not maybe:
            return Verdict(0, 0)
        if yes != maybe or yes.bit_count() != 1:
            return Verdict(0, self.everything)
        other = yes.bit_length() - 1
        if isinstance(claim, Relation):
            things = range(len(self.observed.things))
            return _verdict(self._relations.holds(claim.kind, thing, other) for thing in things)
        return self._timing(claim, other)

    def _look(self, claim: Look, order: int) -> Truth:
        if claim.attribute != "size":
            return bool(getattr(self.observed.things[order], claim.attribute) == claim.value)
        radius_T = self._motions.radius_NT[order, self._motions.shown_NT[order]]
        if not len(radius_T):
            return None
        if radius_T.max() < 0.127:
            return claim.value == "small"
        return claim.value == "large" if radius_T.min() > 0.14 else None

    def _timing(self, claim: Timing, other: int) -> Verdict:
        happens, mark = self._motions.event(claim.other_event)[other]
        if not happens or mark is None:
            return Verdict(0, self.everything)
        sign = 1 if claim.when == "before" else -1
        truths: list[Truth] = []
        for thing, (truth, moment) in enumerate(self._motions.event(claim.event)):
            if thing == other or truth is not True:
                truths.append(False if thing == other else truth)
            else:
                ahead = None if moment is None else sign * (mark - moment)
                truths.append(None if ahead is None else between(ahead, -_GAP, _GAP))
        return _verdict(truths)

    def _ranked(self, claim: Most | Placed | Order | Mutual, members: list[int]) -> Verdict:
        if isinstance(claim, Mutual):
            return self._mutual(claim, members)
        if isinstance(claim, Order):
            return self._order(claim, members)
        unsure = Verdict(0, _bits(members))
        if len(members) < 2:
            return unsure
        found = self._most(claim, members) if isinstance(claim, Most) else self._placed(claim, members)
        return unsure if found is None else Verdict(1 << found, 1 << found)

    def _order(self, claim: Order, members: list[int]) -> Verdict:
        unsure = Verdict(0, _bits(members))
        events = self._motions.event(claim.event)
        happened = []
        for thing in members:
            truth, moment = events[thing]
            if truth is None or (truth and moment is None):
                return unsure
            if truth and moment is not None:
                happened.append((moment, thing))
        happened.sort()
        place = claim.rank - 1 if claim.rank > 0 else len(happened) - 1
        if not happened or place >= len(happened):
            return Verdict(0, 0)
        gaps = [abs(happened[place][0] - moment) for near, (moment, _) in enumerate(happened) if near != place]
        # "The first" and "the last" of only one are odd things to say.
        if not gaps or min(gaps) < _GAP:
            return unsure
        found = 1 << happened[place][1]
        return Verdict(found, found)

    def _most(self, claim: Most, members: list[int]) -> int | None:
        speeds_N2 = self._motions.speeds_N2
        if not all(self._motions.seen_enough(thing) for thing in members):
            return None
        if claim.quality == "slowest" and self._motions.path_N[members].min() < 0.2:
            return None  # whether a thing that stands is the slowest is arguable
        power = 1 if claim.quality == "fastest" else -1
        return _outstanding(members, [np.maximum(speeds_N2[thing], 1e-6) ** power for thing in members], _FASTER)

    def _placed(self, claim: Placed, members: list[int]) -> int | None:
        moment = 0 if claim.when == "start" else -1
        if not self._motions.shown_NT[members, moment].all():
            return None
        axis, sign = {"left": (0, -1), "right": (0, 1), "top": (1, -1), "bottom": (1, 1)}[claim.side]
        places = sorted((sign * float(self._motions.centre_NT2[thing, moment, axis]), thing) for thing in members)
        return places[-1][1] if places[-1][0] - places[-2][0] > _PLACED else None

    def _mutual(self, claim: Mutual, members: list[int]) -> Verdict:
        truths: dict[int, list[Truth]] = {
            one: [self._relations.holds(claim.kind, one, other) for other in members if other != one] for one in members
        }
        yes = _bits(one for one, row in truths.items() if True in row)
        maybe = _bits(one for one, row in truths.items() if True in row or None in row)
        return Verdict(yes, maybe)


def _outstanding(members: list[int], values: list[np.ndarray], factor: float) -> int | None:
    """The member whose values are all `factor` times those of every other."""
    for one, value in zip(members, values, strict=True):
        others = [other for other in values if other is not value]
        if all((value > factor * other).all() for other in others):
            return one
    return None


def _bits(things: Iterable[int]) -> int:
    return sum(1 << thing for thing in things)


def _verdict(truths: Iterable[Truth]) -> Verdict:
    yes = maybe = 0
    for order, truth in enumerate(truths):
        yes |= (truth is True) << order
        maybe |= (truth is not False) << order
    return Verdict(yes, maybe)
