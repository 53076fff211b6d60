"""Decisions: the table of cases, what an order or a duplicate must not change, and conflicts of words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.teacher.interfaces import MatchScores, Parsed
from models.teacher.parser import RuleParser
from models.teacher.resolver import ResolverConfig, pool, resolve
from util.errors import InputError

NAN = float("nan")
SCORES = np.array([[[0.9, 0.8, NAN, 0.7], [0.6, 0.2, 0.4, 0.4], [NAN, 0.9, NAN, NAN]]])
SEEN = np.array([[1, 0.5, 0, 1], [1, 1, 1, 1], [1, 1, 1, 1]])
ONE = Parsed("x", "dog")


def decide(parsed=ONE, scores=SCORES, seen=SEEN, absent=NAN, clusters=(0, 1, 2), **config):
    return resolve(["0"], [parsed], MatchScores(scores, np.array([absent])), seen, clusters, ResolverConfig(**config))[
        0
    ]


def of(*p: float) -> np.ndarray:
    """One sentence, tracks of these scores in two frames."""
    return np.repeat(np.array(p)[None, :, None], 2, axis=2)


def test_pooling_weighs_frames_by_what_is_seen() -> None:
    pooled, judged = pool(SCORES, SEEN)
    np.testing.assert_allclose(pooled[0], [0.8, 0.4, NAN])
    assert judged[0].tolist() == [3, 4, 1]
    np.testing.assert_allclose(pool(SCORES[:, :, :1], SEEN[:, :1])[0][0], [0.9, 0.6, NAN])


def test_the_table_of_cases() -> None:
    one = decide()
    assert (one.status, one.rows, one.votes, one.frames, one.runner_up) == ("ok", (0,), 3, 3, 1)
    assert one.p == pytest.approx(0.8) and one.margin == pytest.approx(0.4)
    two = decide(replace(ONE, cardinality="k", k=2))
    assert (two.status, two.rows, two.factor) == ("partial", (0,), 0.5)
    for cardinality in ("many", "unknown"):
        many = decide(replace(ONE, cardinality=cardinality), least=0.4 - 1e-6)
        assert (many.status, many.rows, many.margin) == ("ok", (0, 1), pytest.approx(0.4))
    assert decide(absent=0.9, override=0.85).status == "no_target"
    assert decide(absent=0.9, override=0.75).status == "ok"
    assert decide(scores=of(0.62, 0.58), seen=np.ones((2, 2)), clusters=(0, 1)).status == "ambiguous"
    assert decide(scores=of(0.3, 0.2), seen=np.ones((2, 2)), clusters=(0, 1)).status == "no_match"
    nothing = decide(scores=np.full((1, 2, 4), NAN), seen=SEEN[:2])
    assert (nothing.status, nothing.rows, nothing.reason) == ("no_candidates", (), "")
    assert decide(scores=SCORES[:, 2:], seen=SEEN[2:], clusters=(0,)).reason == "few_votes"
    empty = decide(scores=np.zeros((1, 0, 0)), seen=np.zeros((0, 0)), clusters=())
    assert (empty.status, empty.reason) == ("no_candidates", "")


def test_the_order_of_tracks_and_their_duplicates_do_not_matter() -> None:
    draw = np.random.default_rng(0)
    for _ in range(50):
        scores = draw.random((1, 5, 4))
        seen = draw.random((5, 4))
        order = draw.permutation(5)
        for parsed in (ONE, replace(ONE, cardinality="k", k=2), replace(ONE, cardinality="many")):
            plain = decide(parsed, scores, seen, clusters=range(5))
            moved = decide(parsed, scores[:, order], seen[order], clusters=range(5))
            assert moved.status == plain.status and {int(order[n]) for n in moved.rows} == set(plain.rows)
            twice = decide(
                parsed,
                np.concatenate([scores, scores], 1),
                np.concatenate([seen, seen]),
                clusters=[*range(5), *range(5)],
            )
            assert (twice.status, twice.rows, twice.margin) == (
                plain.status,
                plain.rows,
                pytest.approx(plain.margin, nan_ok=True),
            )
            assert len(twice.duplicates) == 5


def test_paraphrases_share_and_opposites_conflict() -> None:
    def both(*texts: str):
        scores = MatchScores(np.repeat(of(0.9, 0.1), len(texts), axis=0), np.full(len(texts), NAN))
        parsed = [RuleParser().parse(text) for text in texts]
        return resolve([str(n) for n in range(len(texts))], parsed, scores, np.ones((2, 2)), (0, 1))

    same = both("the dog", "the running dog")
    assert [(d.status, d.shared_with, d.conflict_with, d.factor) for d in same] == [
        ("ok", ("1",), (), 1.0), ("ok", ("0",), (), 1.0),
    ]  # fmt: skip
    for pair in (("the left dog", "the right dog"), ("a red car", "a blue car"), ("the first one", "the last one")):
        assert [(d.conflict_with, d.factor) for d in both(*pair)] == [(("1",), 0.5), (("0",), 0.5)]
    assert both("a black and white dog", "a black dog")[0].factor == 1.0


def test_calibration_is_applied_to_what_is_pooled() -> None:
    scores = MatchScores(of(0.6, 0.1), np.array([NAN]))
    halved = resolve(["0"], [ONE], scores, np.ones((2, 2)), (0, 1), calibrate=lambda s: s / 2)[0]
    assert halved.status == "no_match" and halved.p == pytest.approx(0.3)


@pytest.mark.parametrize("bad", [1.5, -0.1, np.inf])
def test_bad_scores_are_refused(bad: float) -> None:
    with pytest.raises(InputError, match="outside"):
        decide(scores=of(bad, 0.5), seen=np.ones((2, 2)), clusters=(0, 1))
