"""Which of several tracks a sentence means: what is seen of them, who is compared with whom, what is wanted."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from tiny import build, words
from torch import Tensor

from models.choice import Lineup, TrackChoice, TrackViews, choice_loss, line_up, mask_places, track_views
from util.errors import InputError
from util.types import ABSENT, IGNORE, PRESENT, Targets

SIZE = torch.tensor([[32, 48]])
SHAPE = (4, 6)  # tokens of such a frame at stride 8


def squares(*corners: tuple[int, int] | None, side: int = 8) -> Tensor:
    """A track [T, 32, 48]: a square with this top left corner (row, column) in each frame, or nothing."""
    masks = torch.zeros(len(corners), 32, 48, dtype=torch.bool)
    for mask, corner in zip(masks, corners, strict=True):
        if corner is not None:
            mask[corner[0] : corner[0] + side, corner[1] : corner[1] + side] = True
    return masks


def random_views(rows: int, tracks: int, frames: int, dim: int = 16) -> TrackViews:
    seen = torch.rand(rows, tracks, frames) < 0.8
    seen[..., 0] = True
    times = torch.arange(frames).float().expand(rows, -1)
    looks = torch.randn(rows, tracks, frames, dim)
    return TrackViews(looks, torch.rand(rows, tracks, frames), torch.rand(rows, tracks, frames, 5), seen, times)


def pick(views: TrackViews, tracks: list[int]) -> TrackViews:
    return replace(views, **{name: getattr(views, name)[:, tracks] for name in vars(views) if name != "times_NT"})


def test_a_place_is_a_share_of_the_frame_without_its_padding() -> None:
    masks = torch.stack((squares((0, 0), (16, 24)), squares((8, 4), None)))[None].float()
    found = mask_places(masks, SIZE)[0]
    torch.testing.assert_close(found[0, 0], torch.tensor([4 / 48, 4 / 32, 64 / 1536, 8 / 48, 8 / 32]))
    torch.testing.assert_close(found[0, 1], torch.tensor([28 / 48, 20 / 32, 64 / 1536, 8 / 48, 8 / 32]))
    assert not found[1, 1].any()
    unpadded = mask_places(masks, torch.tensor([[16, 24]]))[0, 0, 0]
    torch.testing.assert_close(unpadded, torch.tensor([4 / 24, 4 / 16, 64 / 384, 8 / 24, 8 / 16]))


def test_a_track_is_seen_through_its_mask_with_each_sentence() -> None:
    """Two sentences, two frames: the mean of the tokens under the mask, and the pointing that falls into it."""
    torch.manual_seed(0)
    fused = torch.randn(4, 24 + 6, 5)
    shares = torch.randn(4, 25).log_softmax(-1)
    masks = torch.stack((squares((0, 0), (8, 16)), squares((0, 4), None)))[None]
    views = track_views(fused, shares, SHAPE, masks, SIZE, torch.tensor([[1.0, 3.0]]))
    tokens, pointing = fused[:, :24].view(2, 2, 4, 6, 5), shares[:, :-1].exp().view(2, 2, 4, 6)
    for sentence in range(2):
        torch.testing.assert_close(views.looks_NKTC[sentence, 0, 0], tokens[sentence, 0, 0, 0])
        torch.testing.assert_close(views.looks_NKTC[sentence, 0, 1], tokens[sentence, 1, 1, 2])
        torch.testing.assert_close(views.looks_NKTC[sentence, 1, 0], tokens[sentence, 0, 0, :2].mean(0))
        torch.testing.assert_close(views.share_NKT[sentence, 0, 1], pointing[sentence, 1, 1, 2])
        torch.testing.assert_close(views.share_NKT[sentence, 1, 0], pointing[sentence, 0, 0, :2].sum() / 2)
    assert views.seen_NKT.tolist() == [[[True, True], [True, False]]] * 2
    assert not views.looks_NKTC[:, 1, 1].any() and views.times_NT.tolist() == [[1.0, 3.0]] * 2
    half = track_views(fused.bfloat16(), shares, SHAPE, masks, SIZE, torch.tensor([[1.0, 3.0]]))
    assert torch.equal(half.places_NKT5, views.places_NKT5) and half.looks_NKTC.dtype == torch.bfloat16
    torch.testing.assert_close(half.looks_NKTC.float(), views.looks_NKTC, atol=0.02, rtol=0.02)


def test_tracks_are_compared_whatever_their_order_and_the_unseen_are_not_among_them() -> None:
    torch.manual_seed(1)
    choice = TrackChoice(16, 4)
    said, padding = torch.randn(3, 5, 16), torch.arange(5) >= torch.tensor([[5], [3], [4]])
    views = random_views(3, 4, 6)
    logits = choice(views, said, padding)
    order = [2, 0, 3, 1]
    torch.testing.assert_close(choice(pick(views, order), said, padding), logits[:, order])
    # what a track is told depends on the others ...
    assert not torch.allclose(choice(pick(views, [0, 1]), said, padding), logits[:, :2], atol=1e-3)
    # ... but not on one that is never seen, whatever its numbers, nor on words that are padding
    ghost = replace(views, seen_NKT=views.seen_NKT & torch.tensor([True, True, True, False])[:, None])
    torch.testing.assert_close(choice(ghost, said, padding)[:, :3], choice(pick(views, [0, 1, 2]), said, padding))
    torch.testing.assert_close(choice(views, said.masked_fill(padding[..., None], 9.0), padding), logits)
    assert choice(replace(views, seen_NKT=torch.zeros_like(views.seen_NKT)), said, padding).isfinite().all()


def test_it_learns_what_tracks_do_over_time_and_against_each_other() -> None:
    """Looks say nothing: "goes right" (word 0) needs two moments, "the farther left at first" (word 1) two tracks."""
    torch.manual_seed(2)
    choice, vocabulary = TrackChoice(32, 4, layers=2), torch.randn(2, 32)
    optimizer = torch.optim.AdamW(choice.parameters(), lr=2e-3)

    def lesson(rows: int) -> tuple[TrackViews, Tensor, Tensor]:
        begin, speed = torch.rand(rows, 2, 1) * 0.6 + 0.2, torch.tensor([0.06, -0.06]) * torch.rand(rows, 1).add(0.5)
        flip = torch.rand(rows, 1) < 0.5
        speed = torch.where(flip, speed, speed.flip(1))[..., None]
        x = begin + speed * torch.arange(4)
        places = torch.stack((x, *[torch.full_like(x, 0.3)] * 4), -1)
        zeros = torch.zeros(rows, 2, 4, 32)
        seen = torch.ones(rows, 2, 4, dtype=torch.bool)
        views = TrackViews(zeros, zeros[..., 0], places, seen, torch.arange(4).float().expand(rows, -1))
        word = torch.randint(2, (rows,))
        wanted = torch.where(word == 0, speed[..., 0].argmax(1), begin[..., 0].argmin(1))
        return views, vocabulary[word][:, None], wanted

    padding = torch.zeros(64, 1, dtype=torch.bool)
    for _ in range(150):
        views, said, wanted = lesson(64)
        loss = torch.nn.functional.cross_entropy(choice(views, said, padding), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    views, said, wanted = lesson(64)
    assert (choice(views, said, padding).argmax(1) == wanted).float().mean() > 0.9


# ---- what is wanted --------------------------------------------------------------------------------------------------


def truth(tracks: list[list[Tensor]], states: dict[tuple[int, int, int], int] | None = None) -> Targets:
    """One clip: for each sentence the tracks [T, H, W] of its objects; states by (sentence, object, frame)."""
    slots, frames = max(1, max(map(len, tracks))), 3
    masks = torch.zeros(1, len(tracks), slots, frames, 32, 48, dtype=torch.bool)
    objects = torch.zeros(1, len(tracks), slots, dtype=torch.bool)
    for e, own in enumerate(tracks):
        for n, track in enumerate(own):
            masks[0, e, n], objects[0, e, n] = track, True
    state = torch.where(masks.flatten(-2).any(-1), PRESENT, ABSENT).to(torch.int8)
    for place, value in (states or {}).items():
        state[0][place] = value
    boxes = torch.zeros(*state.shape, 4)
    return Targets(masks, boxes, state, objects, torch.zeros(objects.shape, dtype=torch.long))


LEFT, RIGHT = squares((0, 0), (0, 0), (0, 8)), squares((16, 24), (16, 16), None)


def test_true_tracks_of_all_sentences_line_up_with_some_that_change_over() -> None:
    """The second half: each sentence's track before or after a moment, on the other side another's or nothing."""
    torch.manual_seed(3)
    targets = truth([[LEFT], [RIGHT], [LEFT, RIGHT], []])
    seconds = set()
    for _ in range(40):
        lineup = line_up(targets)
        masks = lineup.masks_BKTHW[0]
        true = torch.stack((LEFT, RIGHT, LEFT | RIGHT, torch.zeros_like(LEFT)))
        assert torch.equal(masks[:4], true) and lineup.known_BE.tolist() == [[True, True, True, False]]
        for e in range(4):
            ways = [
                (b, turn, first)
                for b in range(4)
                for turn in (1, 2)
                for first in (True, False)
                if torch.equal(
                    masks[4 + e],
                    torch.cat((true[e][:turn], true[b][turn:]) if first else (true[b][:turn], true[e][turn:])),
                )
            ]
            assert ways
            if len(ways) == 1:
                seconds.add((e, *ways[0]))
        for e in range(3):
            for k in range(8):
                both, either = (true[e] & masks[k]).sum(), (true[e] | masks[k]).sum()
                assert lineup.overlap_BEK[0, e, k] == pytest.approx(float(both / either))
    assert {first for *_, first in seconds} == {True, False} and {turn for _, _, turn, _ in seconds} == {1, 2}


def test_a_sentence_whose_referent_is_not_labelled_is_not_asked_and_its_track_is_no_candidate() -> None:
    lineup = line_up(truth([[LEFT], [RIGHT]], {(1, 0, 2): IGNORE}))
    assert lineup.known_BE.tolist() == [[True, False]] and not lineup.masks_BKTHW[0, 1].any()


def test_the_loss_is_the_surprise_at_what_overlaps_most() -> None:
    """By hand: of two right tracks the better one is wanted more; empty tracks and unknown sentences do not count."""
    masks = torch.ones(1, 4, 2, 8, 8, dtype=torch.bool)
    masks[0, 3] = False
    overlap = torch.tensor([[[0.9, 0.6, 0.4, 0.0], [0.0, 0.0, 0.0, 0.0]]])
    lineup = Lineup(masks, overlap, torch.tensor([[True, False]]))
    logits = torch.tensor([[[1.0, 0.0, 2.0, 50.0], [0.0, 1.0, 2.0, 3.0]]], requires_grad=True)
    better = 1 / (1 + math.exp(-3.0))
    chances = torch.tensor([1.0, 0.0, 2.0]).log_softmax(0).tolist()
    wanted = -(better * chances[0] + (1 - better) * chances[1])
    loss = choice_loss(logits, lineup, torch.tensor([[2.0, 1.0]]))
    assert float(loss.detach()) == pytest.approx(2 * wanted, rel=1e-5)
    loss.backward()
    assert logits.grad is not None and not logits.grad[0, 1].any() and logits.grad[0, 0, 3] == 0
    assert logits.grad[0, 0, 2] > 0 > logits.grad[0, 0, 0]


# ---- in the network --------------------------------------------------------------------------------------------------


def test_a_network_chooses_sentence_by_sentence_and_only_the_choice_gets_gradients() -> None:
    network = build(grounding=True, choice=True, space_time=True)
    frames = torch.randn(2, 3, 3, 32, 48)
    video = network.encode_video(frames, torch.arange(3.0).expand(2, -1))
    text = words(network, 2, 2)
    masks = torch.stack((torch.stack((LEFT, RIGHT)), torch.stack((RIGHT, RIGHT | LEFT))))
    logits = network.choose(video, text, masks)
    assert logits.shape == (2, 2, 2) and not torch.allclose(logits[:, 0], logits[:, 1])
    logits.square().sum().backward()
    named = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None and p.grad.any()}
    assert named == {"choice"}


def test_a_choice_reads_the_pointing() -> None:
    with pytest.raises(InputError, match=r"model\.choice needs"):
        build(choice=True)
    network = build(grounding=True)
    with pytest.raises(ValueError, match="does not choose"):
        network.choose(None, None, None)  # type: ignore[arg-type]
