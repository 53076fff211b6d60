"""Every sentence is true of exactly its referents, judged anew from its words and from full masks; quotas of splits."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from synthetic_reader import Seen, read

from datasets.synthetic import SyntheticConfig, SyntheticVideos
from datasets.synthetic.observed import observe
from datasets.synthetic.program import FAMILIES, Relation, Timing
from datasets.synthetic.quotas import QUOTAS
from datasets.synthetic.scenes import SPLITS
from datasets.synthetic.verifier import Verifier

# Another number of frames than there are judged moments.
CONFIG = SyntheticConfig(seed=33, frames=30, height=48, width=80)


@cache
def videos(split):
    return SyntheticVideos(replace(CONFIG, split=split))


@cache
def program(split, number):
    return videos(split).program(number)


def seen(split, number):
    """The things of a video as its masks show them."""
    world, said = program(split, number)
    masks = videos(split).filmed(number, world, said).masks
    ids = [thing.id for thing in world.things]
    visible = np.stack([masks.read(frame, ids)[0] for frame in range(CONFIG.frames)], axis=1)
    return [Seen(world, order, visible[order]) for order in range(len(ids))]


@pytest.mark.parametrize("split", [None, *SPLITS])
def test_each_sentence_is_true_of_its_referents_and_of_nothing_else(split):
    for number in range(24):
        things = seen(split, number)
        for sentence in program(split, number)[1]:
            spoken_of, found = read(sentence.text, things)
            ids = tuple(sorted(thing.thing.id for thing in found))
            assert ids == sentence.object_ids, (split, number, sentence.text, ids, sentence.object_ids)
            assert len(ids) in ((0, spoken_of) if spoken_of else (0, 2, 3, 4, 5, 6, 7, 8)), sentence


@pytest.mark.parametrize("split", [None, *SPLITS])
def test_the_verifier_gives_each_sentence_its_answer(split):
    for number in range(24):
        world, said = program(split, number)
        verifier = Verifier(observe(world))
        for sentence in said:
            assert verifier.referents(sentence.program) == sentence.object_ids
            family = sentence.program.family if sentence.object_ids else "no-target"
            assert sentence.family == family in FAMILIES


@pytest.mark.parametrize("split", SPLITS)
def test_splits_keep_their_quotas(split):
    families, count = Counter(), 60
    for number in range(count):
        said = program(split, number)[1]
        assert len({sentence.text for sentence in said}) == len(said)
        families.update(sentence.family for sentence in said)
    total = families.total()
    assert total > 0.95 * count * CONFIG.expressions
    shares = QUOTAS[split].shares
    assert abs(sum(shares.values()) - 1) < 1e-9 and set(families) <= set(shares)
    for family, share in shares.items():
        # A family that a world does not offer is made up for by the others.
        assert 0.4 * share < families[family] / total < share + 0.2, (family, families)


def test_easy_sentences_need_no_time_and_hard_ones_mostly_do():
    for split in SPLITS:
        needs = [
            sentence.program.times_matter for number in range(40) for sentence in program(split, number)[1]
            if sentence.object_ids
        ]  # fmt: skip
        assert not any(needs) if split == "easy" else np.mean(needs) > 0.55, split


@pytest.mark.parametrize("split", ["twins", "late", "reentry", "swap"])
def test_sentences_are_about_what_the_split_is_about(split):
    about = []
    for number in range(30):
        world, said = program(split, number)
        tracks = observe(world).tracks
        looks = [(thing.shape, thing.colour, thing.texture) for thing in world.things]
        for sentence in said:
            orders = [order for order, thing in enumerate(world.things) if thing.id in sentence.object_ids]
            if split in ("twins", "swap"):
                fits = any(looks.count(looks[order]) > 1 for order in orders)
            else:
                moment = slice(0, 1) if split == "late" else slice(None)
                fits = any(tracks.gone_NT[order, moment].any() for order in orders)
            if orders:
                about.append(fits)
    assert np.mean(about) > 0.9


def test_sentences_speak_of_other_things_and_are_composed():
    depths, claims = Counter(), Counter()
    for split in SPLITS:
        for number in range(40):
            for sentence in program(split, number)[1]:
                depths[sentence.program.depth] += 1
                claims.update(type(claim).__name__ for claim in sentence.program.claims)
                others = [claim.other for claim in sentence.program.claims if isinstance(claim, Relation | Timing)]
                depths["timed"] += any(other.times_matter for other in others)
    assert set(claims) == {"Look", "Moves", "Most", "Placed", "Order", "Relation", "Timing", "Mutual", "Not"}
    assert depths[2] > 40 and depths["timed"] >= 5


@pytest.mark.parametrize(
    ("motion", "no_target", "family"), [(0, 0, "appearance"), (1, 0, "motion"), (0, 1, "no-target")]
)
def test_shares_of_the_plain_world_can_be_set(motion, no_target, family):
    plain = SyntheticVideos(replace(CONFIG, motion=motion, no_target=no_target, twins=0.5))
    families = Counter(sentence.family for number in range(30) for sentence in plain.program(number)[1])
    assert families[family] > 0.85 * families.total()


def test_the_plain_world_has_its_shares():
    families = Counter(sentence.family for number in range(150) for sentence in program(None, number)[1])
    assert families.total() > 0.95 * CONFIG.expressions * 150
    assert abs(families["motion"] / families.total() - CONFIG.motion) < 0.06
    assert abs(families["no-target"] / families.total() - CONFIG.no_target) < 0.05


def test_every_thing_of_the_plain_world_has_a_look_alike_and_is_well_seen():
    for number in range(100):
        world, _ = program(None, number)
        assert sorted(thing.id for thing in world.things) == list(range(1, len(world.things) + 1))
        for thing in world.things:
            others = [other for other in world.things if other is not thing]
            assert any(thing.shape == other.shape or thing.colour == other.colour for other in others)
            assert (world.tracks[thing.id].seen_T > 0.5).mean() >= 0.4


def test_shares_of_plain_worlds_can_be_set():
    for share in (0.0, 1.0):
        plain = SyntheticVideos(replace(CONFIG, twins=share, late=share, returning=share))
        for number in range(10):
            things = plain.program(number)[0].things
            motions = {thing.motion for thing in things}
            assert ("late" in motions) == ("returning" in motions) == bool(share)
            looks = Counter((thing.shape, thing.colour, thing.texture) for thing in things)
            assert not share or max(looks.values()) >= 2
