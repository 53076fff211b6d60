"""What the sentences of each split are: shares of the families, and which things they speak of.

Everything is decided by what can be observed: a late thing is one that is not in the picture at the first moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .program import Moves, Mutual, Program
from .scenes import Split
from .verifier import Verifier

Quota = Mapping[str, float]


@dataclass(frozen=True)
class Quotas:
    """Shares of the families, which sum to 1.

    static: only what one frame can answer is said.
    """

    shares: Quota
    static: bool = False


_SHARES: dict[Split, dict[str, float]] = {
    "easy": {"appearance": 0.35, "category": 0.15, "relation": 0.15, "count": 0.1, "negation": 0.15, "no-target": 0.1},
    "twins": {"motion": 0.38, "relation": 0.25, "order": 0.12, "negation": 0.1, "count": 0.05, "no-target": 0.1},
    "late": {"order": 0.38, "motion": 0.2, "relation": 0.16, "negation": 0.1, "appearance": 0.06, "no-target": 0.1},
    # What returns mostly has a look-alike: looks, and what it is not, rarely name it.
    "reentry": {"motion": 0.3, "relation": 0.38, "order": 0.22, "no-target": 0.1},
    "swap": {"relation": 0.35, "motion": 0.3, "count": 0.15, "negation": 0.1, "no-target": 0.1},
    "crowd": {
        "motion": 0.3,
        "relation": 0.2,
        "order": 0.1,
        "count": 0.1,
        "negation": 0.1,
        "appearance": 0.1,
        "no-target": 0.1,
    },
    "long": {"order": 0.4, "motion": 0.25, "relation": 0.1, "negation": 0.1, "count": 0.05, "no-target": 0.1},
    "no_target": {"no-target": 0.6, "motion": 0.2, "relation": 0.1, "appearance": 0.1},
}
QUOTAS: dict[Split, Quotas] = {split: Quotas(shares, static=split == "easy") for split, shares in _SHARES.items()}


def plain_quotas(motion: float, no_target: float) -> Quotas:
    """Of the world without a split: shares of motion and of no-target, the rest is appearance."""
    return Quotas({"appearance": 1 - motion - no_target, "motion": motion, "no-target": no_target})


def spoken_of(split: Split | None, verifier: Verifier) -> int:
    """The things that sentences of a split are about, as bits; all where none is of the split's kind."""
    things = verifier.observed.things
    found = verifier.everything
    if split in ("twins", "swap"):
        looks = [(thing.shape, thing.colour, thing.texture) for thing in things]
        found = sum(1 << order for order, look in enumerate(looks) if looks.count(look) > 1)
    if split == "swap":
        swapped = (
            verifier.verdict(Program((Mutual("exchange"),))).yes | verifier.verdict(Program((Mutual("cross"),))).yes
        )
        found &= swapped
    if split == "late":
        found = verifier.absent_at_first
    if split == "reentry":
        found = verifier.claim(Moves("returning")).yes
    return found or verifier.everything
