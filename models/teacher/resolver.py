"""Which tracks a sentence means, or why none: the scores of all frames are put to the vote, and doubt abstains.

For sentence e and track n,  s = sum_f w S / sum_f w  with w the chance that the track is seen in frame f, 0 where it
was not judged. A track judged in fewer than two frames (or in the only one) has no s. With p = g(s), g the matcher's
calibration, and p_1 >= p_2 >= ... over tracks that are not each other's duplicates:

    one          p_1 < accept: no_match;  p_1 - p_2 < margin: ambiguous;  else the first
    k            the k first that reach `least`; fewer: partial, none: no_match;  p_k - p_(k+1) < margin: ambiguous
    many         all that reach `least`; none: no_match (and so for a sentence whose number is unknown)

Two sentences may mean the same track. Only where their words exclude each other are both doubted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from models.teacher.interfaces import Cardinality, MatchScores, Parsed
from util.errors import InputError

Status = Literal[
    "ok", "partial", "ambiguous", "no_match", "no_target", "no_candidates", "low_quality", "error"
]  # fmt: skip
HALF = 0.5  # weight of a partial answer, and of one that another sentence contradicts


@dataclass(frozen=True)
class ResolverConfig:
    """accept  least p of a sentence that means one thing; least  of each of several.
    margin  least distance to the next track. vote  score from which a frame speaks for a track.
    absent  from which a matcher's "it is not there" counts, unless the best p reaches `override`.
    """

    accept: float = 0.5
    least: float = 0.5
    margin: float = 0.1
    vote: float = 0.5
    absent: float = 0.5
    override: float = 0.8

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= 1:
                raise InputError(f"resolver: {name} is {value!r}; it is a share from 0 to 1")


@dataclass(frozen=True)
class Decision:
    """What was decided of one sentence.

    rows        of the tracks that it means; where it is ambiguous, of those it would mean if it had to
    p, margin   of the weakest track meant; NaN without any. margin: to the best track that is not meant
    votes, frames  least share's count of frames that speak for a track, and in which it was judged
    runner_up   row of the best track that is not meant, None without one
    duplicates  (row, row that stands for it)
    shared_with, conflict_with  ids of sentences that mean one of the same tracks; of those whose words contradict it
    factor      by which the weight is multiplied: 1, or less where it is in doubt
    absent      chance that there is no referent; NaN where no matcher said
    reason      more than the status says, or ""
    """

    expression_id: str
    status: Status
    rows: tuple[int, ...]
    cardinality: Cardinality
    p: float = float("nan")
    margin: float = float("nan")
    votes: int = 0
    frames: int = 0
    runner_up: int | None = None
    duplicates: tuple[tuple[int, int], ...] = ()
    shared_with: tuple[str, ...] = ()
    conflict_with: tuple[str, ...] = ()
    factor: float = 1.0
    absent: float = float("nan")
    reason: str = ""


def pool(scores_ENF: np.ndarray, seen_NF: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean score [E, N] over frames, weighed by the chance to be seen, and the number of frames judged [E, N].

    NaN where fewer than two frames (or than the only one) were judged.
    """
    weight_ENF = np.where(np.isnan(scores_ENF), 0.0, seen_NF[None])
    total_EN = weight_ENF.sum(-1)
    judged_EN = (weight_ENF > 0).sum(-1)
    enough = judged_EN >= min(2, max(scores_ENF.shape[-1], 1))
    summed = (weight_ENF * np.nan_to_num(scores_ENF)).sum(-1)
    return np.divide(summed, total_EN, out=np.full(total_EN.shape, np.nan), where=enough & (total_EN > 0)), judged_EN


def resolve(
    expression_ids: Sequence[str],
    expressions: Sequence[Parsed],
    scores: MatchScores,
    seen_NF: np.ndarray,
    clusters: Sequence[int],
    config: ResolverConfig | None = None,
    calibrate: Callable[[np.ndarray], np.ndarray] | None = None,
) -> list[Decision]:
    """A decision for each of E sentences about N tracks, from scores in F frames.

    seen_NF  chance 0..1 that a track is seen in a frame, 0 where it is not; clusters [N]  equal for tracks that show
    the same thing; calibrate  the monotone g, applied to the pooled scores. Raises InputError for scores outside 0..1.
    """
    config = config or ResolverConfig()
    scores_ENF = scores.scores_ENF
    finite = scores_ENF[np.isfinite(scores_ENF)]
    if np.isinf(scores_ENF).any() or finite.min(initial=0) < 0 or finite.max(initial=0) > 1:
        raise InputError("a matcher gave a score outside 0..1; its scores are chances, or NaN where it did not judge")
    pooled_EN, judged_EN = pool(scores_ENF, seen_NF)
    known = np.isfinite(pooled_EN)
    if calibrate is not None:
        pooled_EN = np.where(known, calibrate(np.where(known, pooled_EN, 0.0)), np.nan)
    weighed = ~np.isnan(scores_ENF) & (seen_NF[None] > 0)
    votes_EN = ((np.nan_to_num(scores_ENF) >= config.vote) & weighed).sum(-1)
    decided = [
        _decide(name, parsed, pooled_EN[e], votes_EN[e], judged_EN[e], clusters, float(scores.absent_E[e]), config)
        for e, (name, parsed) in enumerate(zip(expression_ids, expressions, strict=True))
    ]
    return _compare(decided, expressions)


def _decide(
    name: str,
    parsed: Parsed,
    p_N: np.ndarray,
    votes_N: np.ndarray,
    judged_N: np.ndarray,
    clusters: Sequence[int],
    absent: float,
    config: ResolverConfig,
) -> Decision:
    order, duplicates = _ranked(p_N, clusters)
    blank = Decision(name, "no_candidates", (), parsed.cardinality, duplicates=duplicates, absent=absent)
    if not order:
        return replace(blank, reason="few_votes" if len(p_N) and judged_N.any() else "")
    status, count = _choose(parsed, p_N[order], config)
    if absent >= config.absent and p_N[order[0]] < config.override:
        status, count = "no_target", 0
    rows, rest = order[:count], order[count:]
    after = float(p_N[rest[0]]) if rest else 0.0
    if not rows:
        best = order[0]
        return replace(
            blank,
            status=status,
            p=float(p_N[best]),
            votes=int(votes_N[best]),
            frames=int(judged_N[best]),
            runner_up=best,
        )
    weakest = min(rows, key=lambda n: (votes_N[n] / max(judged_N[n], 1), n))
    return replace(
        blank,
        status=status,
        rows=tuple(sorted(rows)),
        p=float(p_N[rows].min()),
        margin=float(p_N[rows].min()) - after,
        votes=int(votes_N[weakest]),
        frames=int(judged_N[weakest]),
        runner_up=rest[0] if rest else None,
        factor=HALF if status == "partial" else 1.0,
    )


def _ranked(p_N: np.ndarray, clusters: Sequence[int]) -> tuple[list[int], tuple[tuple[int, int], ...]]:
    """Rows of finite p, the best first, one of each cluster; and the others with the one that stands for them."""
    order: list[int] = []
    duplicates: list[tuple[int, int]] = []
    stands: dict[int, int] = {}
    for n in sorted(np.flatnonzero(np.isfinite(p_N)).tolist(), key=lambda n: (-p_N[n], n)):
        if clusters[n] in stands:
            duplicates.append((n, stands[clusters[n]]))
        else:
            stands[clusters[n]] = n
            order.append(n)
    return order, tuple(sorted(duplicates))


def _choose(parsed: Parsed, p: np.ndarray, config: ResolverConfig) -> tuple[Status, int]:
    """The status, and how many of the ranked tracks are meant."""
    wanted = parsed.k if parsed.cardinality == "k" else None
    if parsed.cardinality == "one" or wanted == 1:
        wanted, least = 1, config.accept
    else:
        least = config.least
    reaching = int((p >= least).sum())
    if not reaching:
        return "no_match", 0
    if wanted is None:
        return "ok", reaching
    if reaching < wanted:
        return "partial", reaching
    close = len(p) > wanted and p[wanted - 1] - p[wanted] < config.margin
    return ("ambiguous" if close else "ok"), wanted


def _compare(decisions: Sequence[Decision], expressions: Sequence[Parsed]) -> list[Decision]:
    """Note which sentences mean the same tracks, and doubt those whose words exclude each other."""
    compared = []
    for decision, parsed in zip(decisions, expressions, strict=True):
        shared, conflicts = [], []
        for other, said in zip(decisions, expressions, strict=True):
            if other is not decision and set(decision.rows) & set(other.rows):
                shared.append(other.expression_id)
                if exclude(parsed, said):
                    conflicts.append(other.expression_id)
        factor = decision.factor * (HALF if conflicts else 1.0)
        compared.append(replace(decision, shared_with=tuple(shared), conflict_with=tuple(conflicts), factor=factor))
    return compared


def exclude(one: Parsed, other: Parsed) -> bool:
    """Whether no single thing can be what both sentences say: two colours, two sides, or two places in an order.

    Only sentences about one thing can, without a "not".
    """
    if one.negated or other.negated or not one.cardinality == other.cardinality == "one":
        return False
    for kind in ("colour", "side", "order"):
        a, b = one.attributes.get(kind), other.attributes.get(kind)
        if a and b and not set(a) & set(b):
            return True
    return False
