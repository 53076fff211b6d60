"""Clips: frame rules, truth that fits the view, purity in (seed, number), and the batch."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from datasets.clips import DIVISOR, MEAN, STD, ClipConfig, ClipDataset, collate, cut_clip, frames_at
from datasets.frame_sampler import published_frames, published_neighbours, spaced_frames
from datasets.synthetic import SyntheticConfig, SyntheticVideos
from datasets.transforms import TransformConfig
from datasets.video import MemoryVideo
from util.errors import InputError
from util.protocol import CORRECTED, PUBLISHED
from util.types import ABSENT, IGNORE, PRESENT, Expression, ReferringVideo

HEIGHT, WIDTH = 40, 60
STILL = TransformConfig(short_sides=(HEIGHT,), max_side=WIDTH, crop=0, flip=0, photometric=False)

# ---- which frames


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_frame_rules_return_sorted_frames_in_range_for_every_length(count: int) -> None:
    for length in range(1, 25):
        for anchor in range(length):
            rng = np.random.default_rng([length, anchor, count])
            for index in (spaced_frames(anchor, length, count, 4, rng), published_frames(anchor, length, count, rng)):
                assert len(index) == count and (np.diff(index) >= 0).all()
                assert index[0] >= 0 and index[-1] < length


def test_published_clips_of_three_or_more_hold_the_anchor() -> None:
    for count in (3, 5, 9):
        for length in range(1, 20):
            for anchor in range(length):
                rng = np.random.default_rng([length, anchor])
                assert anchor in published_frames(anchor, length, count, rng)


def test_published_rule_of_one_and_two_frames() -> None:
    rng = np.random.default_rng(0)
    assert published_frames(7, 20, 1, rng).tolist() == [7]
    for _ in range(50):
        first, second = published_frames(7, 20, 2, rng)
        assert 4 <= first < 7 == second  # the later neighbour is dropped


def test_published_neighbours_and_the_rest() -> None:
    rng = np.random.default_rng(0)
    repeated = 0
    for _ in range(300):
        index = published_frames(10, 30, 5, rng).tolist()
        near = [i for i in index if 7 <= i <= 13]
        assert 10 in index and any(7 <= i < 10 for i in index) and any(10 < i <= 13 for i in index)
        assert len(near) >= 3
        repeated += len(set(index)) < 5
    assert repeated  # the later neighbour is in the pool too, as published


def test_published_neighbours_are_one_frame_away() -> None:
    assert published_neighbours(np.arange(6), 6).tolist() == [1, 0, 3, 2, 5, 4]
    assert published_neighbours(np.arange(5), 5).tolist() == [1, 0, 3, 2, 3]
    assert published_neighbours(np.array([0, 0]), 1).tolist() == [0, 0]


def test_spaced_clips_hold_the_anchor_are_even_and_use_every_spacing() -> None:
    spacings, places = Counter(), Counter()
    for n in range(600):
        index = spaced_frames(15, 31, 4, 5, np.random.default_rng(n))
        assert 15 in index and len(set(np.diff(index))) == 1
        spacings[int(index[1] - index[0])] += 1
        places[index.tolist().index(15)] += 1
    assert set(spacings) == {1, 2, 3, 4, 5} and min(spacings.values()) > 60
    assert set(places) == {0, 1, 2, 3}


def test_spaced_clips_of_a_short_video_show_all_of_it() -> None:
    rng = np.random.default_rng(0)
    assert spaced_frames(1, 3, 3, 5, rng).tolist() == [0, 1, 2]
    assert set(spaced_frames(1, 3, 5, 5, rng).tolist()) == {0, 1, 2}


def test_frames_at_is_one_choice_per_step() -> None:
    config = ClipConfig(frames=(1, 3, 3))
    drawn = Counter(frames_at(config, 5, step) for step in range(600))
    assert 150 < drawn[1] < 250 and drawn[1] + drawn[3] == 600
    assert frames_at(ClipConfig(frames=4), 5, 0) == 4


# ---- a small video: object 1 is a square that moves right, 2 a bar that comes in frame 4, 3 one pixel, 4 unlabelled


class SquareMasks:
    def read(self, index: int, object_ids) -> tuple[np.ndarray, np.ndarray]:
        masks = np.zeros((len(object_ids), HEIGHT, WIDTH), bool)
        states = np.full(len(object_ids), ABSENT, np.int8)
        for mask, (place, object_id) in zip(masks, enumerate(object_ids), strict=True):
            if object_id == 1:
                mask[10:20, 2 * index : 2 * index + 10] = True
            elif object_id == 2 and index >= 4:
                mask[30:35, 20:60] = True
            elif object_id == 3:
                mask[5, 7] = True
            states[place] = IGNORE if object_id == 4 else PRESENT if mask.any() else ABSENT
        return masks, states


def video(*answers: tuple[int, ...] | None, frames: int = 8, masks: bool = True) -> ReferringVideo:
    pixels = np.random.default_rng(0).integers(0, 256, (frames, HEIGHT, WIDTH, 3), dtype=np.uint8)
    source = MemoryVideo(pixels, fps=5)
    said = tuple(Expression(str(i), f"the {i}.  LEFT thing", ids) for i, ids in enumerate(answers))
    return ReferringVideo("squares", source, source.names, said, SquareMasks() if masks else None)


def clip(*answers: tuple[int, ...], frames=(0, 3, 6), seed: int = 0, **changes):
    config = ClipConfig(**{"transform": STILL, "expressions": len(answers), **changes})
    said = video(*answers)
    return cut_clip(said, said.expressions, np.array(frames), config, np.random.default_rng(seed))


def test_truth_of_an_untouched_clip() -> None:
    sample = clip((1,), (2,))
    assert np.array_equal(sample.frames_THWC, np.stack([video().frames[i] for i in (0, 3, 6)]))
    assert sample.times_T.tolist() == pytest.approx([0, 0.6, 1.2])
    assert sample.captions == ["the 0. left thing", "the 1. left thing"]
    assert sample.states_ENT.tolist() == [[[PRESENT] * 3], [[ABSENT, ABSENT, PRESENT]]]
    assert torch.equal(sample.masks_ENTHW[0, 0], torch.from_numpy(np.stack([square(i) for i in (0, 3, 6)])))
    expected = [[(2 * i + 5) / WIDTH, 15 / HEIGHT, 10 / WIDTH, 10 / HEIGHT] for i in (0, 3, 6)]
    assert torch.allclose(sample.boxes_ENT4[0, 0], torch.tensor(expected))
    assert not sample.boxes_ENT4[1, 0, :2].any() and sample.boxes_ENT4[1, 0, 2].all()


def square(index: int) -> np.ndarray:
    return SquareMasks().read(index, [1])[0][0]


def test_a_sentence_without_target_is_a_negative() -> None:
    sample = clip((), max_objects=2)
    assert not sample.objects_EN.any() and not sample.masks_ENTHW.any() and not sample.boxes_ENT4.any()
    assert (sample.states_ENT == ABSENT).all()


def test_a_target_that_is_never_seen_is_kept_as_absent() -> None:
    sample = clip((2,), frames=(0, 1))
    assert sample.objects_EN.all() and (sample.states_ENT == ABSENT).all()


def test_unlabelled_frames_are_ignored() -> None:
    assert (clip((4,)).states_ENT == IGNORE).all()


def test_several_objects_fill_slots_and_the_smallest_are_merged() -> None:
    three = clip((1, 2, 3), max_objects=4, frames=(5,))
    assert three.objects_EN.tolist() == [[True, True, True, False]]
    assert [int(m.sum()) for m in three.masks_ENTHW[0, :, 0]] == [100, 200, 1, 0]
    two = clip((1, 2, 3), max_objects=2, frames=(0, 5))
    assert two.objects_EN.tolist() == [[True, True]]
    # by area over the clip the bar (200) and the square (200) tie, the pixel (2) is merged into the second of them
    assert [m.sum().item() for m in two.masks_ENTHW[0].flatten(2).sum(-1)] == [200, 202]
    one = clip((1, 2, 3), max_objects=1, frames=(5,))
    union = three.masks_ENTHW[0].any(0)
    assert torch.equal(one.masks_ENTHW[0, 0], union)
    assert one.boxes_ENT4[0, 0, 0].tolist() == pytest.approx([33.5 / WIDTH, 20 / HEIGHT, 53 / WIDTH, 30 / HEIGHT])


def test_merging_keeps_what_is_known() -> None:
    sample = clip((1, 2, 4), max_objects=1, frames=(0, 5))
    assert (sample.states_ENT == PRESENT).all()
    assert (clip((2, 4), max_objects=1, frames=(0,)).states_ENT == IGNORE).all()


def test_flip_mirrors_pixels_masks_boxes_and_sentences() -> None:
    one, other = clip((1,)), clip((1,), transform=replace(STILL, flip=1.0))
    assert np.array_equal(other.frames_THWC, one.frames_THWC[:, :, ::-1])
    assert torch.equal(other.masks_ENTHW, one.masks_ENTHW.flip(-1))
    assert torch.allclose(other.boxes_ENT4[..., 0], 1 - one.boxes_ENT4[..., 0])
    assert torch.equal(other.boxes_ENT4[..., 1:], one.boxes_ENT4[..., 1:])
    assert other.captions == ["the 0. right thing"]


@pytest.mark.parametrize("seed", range(12))
def test_boxes_are_those_of_the_final_masks(seed: int) -> None:
    crop = TransformConfig(short_sides=(24, 30), max_side=48, crop=1.0, crop_from=(32, 50), crop_sides=(16, 40))
    sample = clip((1,), (2,), (3,), frames=(0, 2, 4, 7), seed=seed, transform=crop)
    height, width = sample.frames_THWC.shape[1:3]
    for mask, box, state in zip(
        sample.masks_ENTHW.flatten(0, 2), sample.boxes_ENT4.flatten(0, 2), sample.states_ENT.flatten(), strict=True
    ):
        assert bool(mask.any()) == (state == PRESENT)
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        if not len(rows):
            assert not box.any()
            continue
        edges = [columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height]
        found = [box[0] - box[2] / 2, box[1] - box[3] / 2, box[0] + box[2] / 2, box[1] + box[3] / 2]
        assert torch.allclose(torch.stack(found), torch.stack(edges), atol=1e-6)


def test_published_boxes_lack_the_last_row_and_column_and_drop_single_pixels() -> None:
    inclusive = replace(CORRECTED, box_from="inclusive")
    sample = clip((1,), (3,), frames=(0,), protocol=inclusive)
    assert sample.boxes_ENT4[0, 0, 0].tolist() == pytest.approx([4.5 / WIDTH, 14.5 / HEIGHT, 9 / WIDTH, 9 / HEIGHT])
    assert sample.masks_ENTHW[1].any() and sample.states_ENT[1].item() == ABSENT and not sample.boxes_ENT4[1].any()
    assert clip((3,), frames=(0,)).states_ENT.item() == PRESENT


@pytest.mark.parametrize(
    "field, quantity", [("box_from", "boxes_ENT4"), ("caption_flip", "captions"), ("photometric", "frames_THWC")]
)
def test_each_published_switch_changes_only_what_it_names(field: str, quantity: str) -> None:
    transform = replace(STILL, flip=1.0, photometric=True)
    switched = replace(CORRECTED, **{field: getattr(PUBLISHED, field)})
    said = ReferringVideo(**{**vars(video((1,))), "expressions": (Expression("0", "the bright left thing", (1,)),)})
    one, other = (
        cut_clip(
            said,
            said.expressions,
            np.array([1, 2]),
            ClipConfig(transform=transform, protocol=p),
            np.random.default_rng(4),
        )
        for p in (CORRECTED, switched)
    )
    for name, value in vars(one).items():
        same = np.array_equal(np.asarray(value), np.asarray(getattr(other, name)))
        assert same == (name != quantity), name


# ---- the data set


def test_an_item_is_a_function_of_seed_and_number() -> None:
    config = ClipConfig(frames=(1, 2), expressions=2, transform=replace(STILL, flip=0.5, photometric=True))
    videos = [video((1,), (2,), ()), video((3,), (1,))]
    one, other = (ClipDataset(videos, config, seed=7, per_step=2) for _ in range(2))
    backwards = {n: other[n] for n in reversed(range(10))}
    for n in range(10):
        for name, value in vars(one[n]).items():
            assert np.array_equal(np.asarray(value), np.asarray(getattr(backwards[n], name))), name
    assert one[0].identity != ClipDataset(videos, config, seed=8, per_step=2)[0].identity


def test_a_pass_visits_every_sentence_at_every_stretch() -> None:
    """Six sentences in three pairs, 8 frames in stretches of 3: nine clips, each sentence in three of them."""
    config = ClipConfig(frames=3, expressions=2, transform=STILL, sampler="published")
    dataset = ClipDataset([video((1,), (2,), (3,), (1,), (2,), ())], config, seed=0, every_clip=True)
    assert len(dataset) == 9
    for first in (0, 9):
        drawn = [dataset[n] for n in range(first, first + 9)]
        assert set(Counter(caption for sample in drawn for caption in sample.captions).values()) == {3}
        assert all(len(set(sample.captions)) == 2 for sample in drawn)
    single = ClipDataset([video((1,), (2,), ())], replace(config, expressions=1, frames=1), seed=0, every_clip=True)
    seen = Counter((s.captions[0], float(s.times_T)) for s in (single[n] for n in range(len(single))))
    assert len(seen) == 24 and set(seen.values()) == {1}


def test_independent_neighbours_leave_the_clip_as_it_was() -> None:
    """The frame beside each frame, with its own draws of mirroring and size; a batch pads them to their own canvas."""
    transform = TransformConfig(short_sides=(20, 40, 60), max_side=90, crop=0, photometric=False)
    shared = ClipConfig(frames=2, transform=transform, sampler="published")
    apart = replace(shared, track_augment="independent")
    plain, told = (ClipDataset([video((1,), (2,))], config, seed=1) for config in (shared, apart))
    flips = Counter()
    for n in range(12):
        sample, beside = told[n], told[n].neighbours
        assert plain[n].neighbours is None and beside is not None and beside.neighbours is None
        assert plain[n].identity == sample.identity and np.array_equal(plain[n].frames_THWC, sample.frames_THWC)
        index = (sample.times_T * 5).round().int().numpy()
        assert (beside.times_T * 5).round().int().tolist() == published_neighbours(index, 8).tolist()
        assert torch.equal(beside.objects_EN, sample.objects_EN)
        flips[("flip=True" in sample.identity, "flip=True" in beside.identity)] += 1
    assert len(flips) == 4
    batch = collate([told[0], told[1]])
    assert batch.neighbours is not None and batch.neighbours.sizes_B2.tolist() == [
        list(told[n].neighbours.frames_THWC.shape[1:3]) for n in (0, 1)
    ]


@pytest.mark.parametrize("sampler", ["spaced", "published"])
@pytest.mark.parametrize("every_clip", [False, True])
def test_clips_of_a_partly_labelled_video_hold_a_labelled_frame(sampler: str, every_clip: bool) -> None:
    """As A2D: three sentences, two labelled frames of eight; every pair of them comes once in a pass."""
    said = video((1,), (2,), (1,))
    partly = replace(said, masks=LabelledAt((5, 6)), labelled=(5, 6))
    config = ClipConfig(frames=3, transform=STILL, sampler=sampler)
    dataset = ClipDataset([partly], config, seed=0, every_clip=every_clip)
    assert len(dataset) == (6 if every_clip else 1)
    seen = Counter()
    for sample in (dataset[n] for n in range(6)):
        index = (sample.times_T * 5).round().int().tolist()
        known = [state != IGNORE for state in sample.states_ENT[0, 0].tolist()]
        assert any(known) and known == [frame in (5, 6) for frame in index]
        seen[sample.captions[0]] += 1
    if every_clip:
        assert set(seen.values()) == {2} and len(seen) == 3
    with pytest.raises(InputError, match="no masks"):
        ClipDataset([replace(partly, labelled=())], config, seed=0)[0]


class LabelledAt(SquareMasks):
    """Labels in some frames only."""

    def __init__(self, frames: tuple[int, ...]) -> None:
        self.frames = frames

    def read(self, index: int, object_ids) -> tuple[np.ndarray, np.ndarray]:
        masks, states = super().read(index, object_ids)
        return (masks, states) if index in self.frames else (masks & False, np.full_like(states, IGNORE))


def test_passes_have_different_orders_and_visit_each_video_once() -> None:
    videos = [replace(video((1,)), id=str(i)) for i in range(6)]
    dataset = ClipDataset(videos, ClipConfig(frames=1, transform=STILL), seed=0)
    passes = [[dataset[n].identity.split()[6] for n in range(first, first + 6)] for first in (0, 6)]
    assert sorted(passes[0]) == sorted(passes[1]) and passes[0] != passes[1] and len(set(passes[0])) == 6


def test_too_few_sentences_are_repeated() -> None:
    dataset = ClipDataset([video((1,), ())], ClipConfig(frames=1, expressions=5, transform=STILL), seed=0)
    counts = Counter(dataset[0].captions)
    assert set(counts) == {"the 0. left thing", "the 1. left thing"} and set(counts.values()) == {2, 3}


@pytest.mark.parametrize("change", [{"frames": 0}, {"frames": ()}, {"expressions": 0}, {"max_skip": 0}])
def test_clips_of_nothing_are_refused(change: dict) -> None:
    with pytest.raises(InputError, match="at least 1"):
        ClipConfig(**change)


def test_data_that_cannot_be_trained_on_is_refused() -> None:
    config = ClipConfig(frames=1, transform=STILL)
    with pytest.raises(InputError, match="no videos"):
        ClipDataset([], config, seed=0)
    with pytest.raises(InputError, match="no sentences"):
        ClipDataset([video()], config, seed=0, every_clip=True)
    for bad in (video((1,), masks=False), video((1,), None)):
        with pytest.raises(InputError, match="squares has no masks or no answered sentences"):
            ClipDataset([bad], config, seed=0)[0]


# ---- batch


def test_batches_are_padded_to_the_divisor_and_normalised() -> None:
    other = clip((2,), transform=replace(STILL, short_sides=(70,), max_side=200))
    batch = collate([clip((1,)), other])
    assert batch.frames_BTCHW.shape == (2, 3, 3, 96, 128) and batch.frames_BTCHW.dtype == torch.float32
    assert all(side % DIVISOR == 0 for side in batch.frames_BTCHW.shape[-2:])
    assert batch.sizes_B2.tolist() == [[40, 60], [70, 105]]
    restored = (
        batch.frames_BTCHW[0, ..., :40, :60] * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
    )
    expected = torch.from_numpy(clip((1,)).frames_THWC).permute(0, 3, 1, 2) / 255
    assert torch.allclose(restored, expected, atol=1e-6)
    assert not batch.frames_BTCHW[0, ..., 40:, :].any() and not batch.frames_BTCHW[0, ..., 60:].any()
    masks = batch.targets.masks_BENTHW
    assert masks.shape == (2, 1, 1, 3, 96, 128) and torch.equal(masks[0, ..., :40, :60], clip((1,)).masks_ENTHW)
    assert not masks[0, ..., 40:, :].any() and not masks[0, ..., 60:].any()
    assert torch.equal(batch.targets.boxes_BENT4[1], other.boxes_ENT4)
    assert batch.targets.labels_BEN.dtype == torch.long and batch.targets.states_BENT.dtype == torch.int8
    assert collate([clip((1,))], divisor=1).frames_BTCHW.shape[-2:] == (40, 60)
    assert batch.captions == [["the 0. left thing"], ["the 0. left thing"]] and len(batch.identity) == 2


def test_spacing_keeps_to_its_least_where_the_video_is_long_enough():
    rng = np.random.default_rng(0)
    steps = {int(np.diff(spaced_frames(int(rng.integers(24)), 24, 6, 4, rng, min_skip=3))[0]) for _ in range(200)}
    assert steps == {3, 4}
    # eight frames three apart do not fit into 20, two apart do
    assert {int(step) for step in np.diff(spaced_frames(10, 20, 8, 4, rng, min_skip=3))} == {2}


def test_answered_frames_have_the_truth_of_those_frames():
    videos = SyntheticVideos(SyntheticConfig(seed=3, videos=12, height=32, width=64))
    whole = ClipDataset(videos, ClipConfig(frames=6, expressions=2), seed=4)
    part = ClipDataset(videos, ClipConfig(frames=6, expressions=2, answered=2), seed=4)
    firsts = set()
    for n in range(12):
        a, b = whole[n], part[n]
        assert np.array_equal(a.frames_THWC, b.frames_THWC)
        assert a.captions == b.captions
        first, second = b.answered_T.tolist()
        assert second == first + 1
        firsts.add(first)
        assert torch.equal(a.masks_ENTHW[:, :, [first, second]], b.masks_ENTHW)
        assert torch.equal(a.states_ENT[..., [first, second]], b.states_ENT)
        assert torch.equal(a.boxes_ENT4[:, :, [first, second]], b.boxes_ENT4)
    assert len(firsts) > 2
    batch = collate([part[0], part[1]])
    assert batch.answered_BT.shape == (2, 2)
    assert batch.frames_BTCHW.shape[1] == 6
    assert batch.targets.states_BENT.shape[-1] == 2


def test_answered_frames_can_be_nearer_than_the_clip_is_spaced():
    videos = SyntheticVideos(SyntheticConfig(seed=3, videos=12, height=32, width=64))
    plain = TransformConfig(short_sides=(32,), max_side=64, crop=0.0, flip=0.0, photometric=False)
    spaced = ClipConfig(frames=6, answered=2, min_skip=4, max_skip=4, transform=plain)
    even, near = ClipDataset(videos, spaced, seed=4), ClipDataset(videos, replace(spaced, answered_gap=4), seed=4)
    by_name = {video.id: video for video in videos}
    gaps = set()
    for n in range(24):
        a, b = even[n], near[n]
        first, second = b.answered_T.tolist()
        assert a.answered_T.tolist() == [first, second]
        frames_a, frames_b = ((sample.times_T * videos[0].frames.fps).round().int().tolist() for sample in (a, b))
        gaps.add(frames_b[second] - frames_b[first])
        assert [x for t, x in enumerate(frames_a) if t != second] == [x for t, x in enumerate(frames_b) if t != second]
        video = by_name[b.identity.split("video ")[1].split(",")[0]]
        assert np.array_equal(b.frames_THWC[second], video.frames[frames_b[second]])
        ids = next(e.object_ids for e in video.expressions if e.text.lower() == b.captions[0])
        truth = video.masks.read(frames_b[second], ids)[0].any(0) if ids else np.zeros((32, 64), bool)
        assert np.array_equal(b.masks_ENTHW[0, :, 1].any(0).numpy(), truth)
    assert gaps == {1, 2, 3, 4}


def test_clips_can_be_answered_where_something_happens():
    """Between the two answered frames some referent's visible area halves or doubles, wherever that ever happens."""
    videos = SyntheticVideos(SyntheticConfig(seed=3, videos=40, height=32, width=64, split="reentry"))
    plain = TransformConfig(short_sides=(32,), max_side=64, crop=0.0, flip=0.0, photometric=False)
    spaced = ClipConfig(frames=6, answered=2, expressions=2, min_skip=4, max_skip=4, transform=plain)
    whole = ClipDataset(videos, replace(spaced, answered=None), seed=4)
    sought, usual = (ClipDataset(videos, replace(spaced, eventful=share), seed=4) for share in (1.0, 0.0))

    def changes(sample):
        area_ET = sample.masks_ENTHW.sum((1, 3, 4)).float()
        return (2 * area_ET[:, 1:].minimum(area_ET[:, :-1]) < area_ET[:, 1:].maximum(area_ET[:, :-1])).any(0)

    possible, happened, by_chance = 0, 0, 0
    for n in range(len(videos)):
        sample = sought[n]
        assert torch.equal(sample.times_T, usual[n].times_T)
        if changes(whole[n]).any():
            possible += 1
            happened += int(changes(sample).any())
            by_chance += int(changes(usual[n]).any())
        else:
            assert torch.equal(sample.answered_T, usual[n].answered_T)
    assert possible > 10
    assert happened == possible > by_chance
