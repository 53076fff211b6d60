"""Matching: published costs and choices, exact assignment of several objects, and what takes part in a cost."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from loss_cases import ORACLES, golden, oracle_case, random_prediction, rectangle_targets, shares
from torch import Tensor

from models.grid_targets import grid_targets, merge_smallest
from models.matcher import MatcherConfig, assign, match, matching_costs
from util.boxes import cxcywh_to_xyxy, giou
from util.errors import InputError
from util.protocol import CORRECTED, PUBLISHED, Protocol
from util.types import ABSENT, IGNORE, PRESENT, Prediction, Targets

CONFIG = MatcherConfig()


def _costs(prediction: Prediction, targets: Targets, sizes: Tensor, protocol: Protocol) -> Tensor:
    grid = prediction.masks_BETQhw.shape[-2:]
    truth = grid_targets(targets, sizes, (grid[0], grid[1]), prediction.logits_BETQK.shape[3], protocol)
    return matching_costs(prediction, truth, CONFIG, protocol)


def _full_size(targets: Targets) -> Tensor:
    return torch.tensor(targets.masks_BENTHW.shape[-2:]).expand(len(targets.masks_BENTHW), 2)


def test_published_goldens() -> None:
    prediction, targets, sizes = golden()
    expected = torch.tensor(
        [[3.460277, 3.933302, 3.646619, 0.695683, 3.018987], [7.249017, 3.625937, 4.707585, 5.850802, 5.264323]]
    )
    cost = _costs(prediction, targets, sizes, PUBLISHED)
    torch.testing.assert_close(cost[:, 0, 0], expected, atol=2e-6, rtol=0)
    assert match(prediction, targets, sizes, CONFIG, PUBLISHED).queries_BEN.flatten().tolist() == [3, 1]


@pytest.mark.parametrize("name", [name for name in ORACLES if name != "B5"])
def test_oracle_costs_and_choices(oracles: Path, name: str) -> None:
    prediction, targets, sizes, golden_file = oracle_case(oracles / "referformer", name)
    for prefix, layer in [("main", prediction), *((f"aux{n}", layer) for n, layer in enumerate(prediction.aux))]:
        cost = _costs(layer, targets, sizes, PUBLISHED)[:, 0, 0]
        np.testing.assert_allclose(cost.numpy(), golden_file[f"{prefix}.cost"], atol=1e-4, rtol=1e-5)
        chosen = match(layer, targets, sizes, CONFIG, PUBLISHED).queries_BEN.flatten()
        assert chosen.tolist() == golden_file[f"{prefix}.indices"].tolist()


def _slow_cost(prediction: Prediction, targets: Targets, sizes: Tensor, place: tuple[int, ...]) -> float:
    """The corrected cost of one (video, sentence, object, query), straight from its definition."""
    b, e, n, q = place
    states = targets.states_BENT[b, e, n]
    here = (states == PRESENT).nonzero().flatten().tolist()
    known = (states != IGNORE).nonzero().flatten().tolist()
    rows, columns = ((int(size) - 2 + 3) // 4 for size in sizes[b])

    p = prediction.logits_BETQK[b, e, here, q, 0].sigmoid()
    classes = (0.25 * (1 - p) ** 2 * -(p + 1e-8).log() - 0.75 * p**2 * -(1 - p + 1e-8).log()).mean()
    boxes, truth_boxes = prediction.boxes_BETQ4[b, e, here, q], targets.boxes_BENT4[b, e, n, here]
    l1 = (boxes - truth_boxes).abs().sum(-1).mean()
    overlap = giou(cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(truth_boxes)).mean()
    p = prediction.masks_BETQhw[b, e, known, q, :rows, :columns].sigmoid()
    t = shares(targets.masks_BENTHW[b, e, n, known])[:, :rows, :columns]
    focal = (-0.25 * t * (1 - p) ** 2 * p.log() - 0.75 * (1 - t) * p**2 * (1 - p).log()).mean()
    dice = (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)
    return float(2 * classes + 5 * l1 - 2 * overlap + 2 * focal - 5 * dice)


def test_every_corrected_cost_equals_its_definition() -> None:
    prediction, targets = random_prediction(), rectangle_targets(objects=3)
    sizes = torch.tensor([[32, 48], [21, 34]])
    inside = (torch.arange(32)[:, None] < sizes[:, :1, None]) & (torch.arange(48) < sizes[:, 1:, None])
    states = targets.states_BENT.clone()
    states[0, 0, 0, 1], states[0, 1, 2, 0], states[1, 0, :, 2], states[1, 1, 1, 0] = ABSENT, IGNORE, IGNORE, ABSENT
    shown = (states == PRESENT)[..., None, None]
    targets = replace(
        targets, states_BENT=states, masks_BENTHW=targets.masks_BENTHW & shown & inside[:, None, None, None]
    )
    cost = _costs(prediction, targets, sizes, CORRECTED)
    expected = [_slow_cost(prediction, targets, sizes, place) for place in itertools.product(*map(range, cost.shape))]
    torch.testing.assert_close(cost, torch.tensor(expected).view(cost.shape), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("objects", [1, 2, 3, 5])
def test_assignment_is_the_cheapest_one_to_one(objects: int) -> None:
    cost = torch.randn(4, 2, objects, 5)
    chosen = assign(cost, torch.ones(4, 2, objects, dtype=torch.bool))
    for b, e in itertools.product(range(4), range(2)):
        best = min(
            sum(cost[b, e, n, q].item() for n, q in enumerate(way)) for way in itertools.permutations(range(5), objects)
        )
        assert len(set(chosen[b, e].tolist())) == objects
        assert abs(cost[b, e, range(objects), chosen[b, e]].sum().item() - best) < 1e-6
    if objects == 1:
        assert torch.equal(chosen[:, :, 0], cost[:, :, 0].argmin(-1))


def test_two_objects_that_want_one_query_share_it_out() -> None:
    cost = torch.tensor([[0.0, 5.0, 9.0], [0.0, 1.0, 9.0]])[None, None]
    assert assign(cost, torch.ones(1, 1, 2, dtype=torch.bool)).tolist() == [[[0, 1]]]


def test_empty_slots_take_no_query_and_do_not_disturb() -> None:
    cost = torch.randn(1, 3, 3, 5)
    objects = torch.tensor([[[True, False, True], [False, False, False], [False, True, False]]])
    cost[~objects] = torch.nan  # whatever an empty slot holds must not matter
    chosen = assign(cost, objects)
    assert (chosen == -1).equal(~objects)
    assert torch.equal(chosen[:, :1, [0, 2]], assign(cost[:, :1, [0, 2]], objects[:, :1, [0, 2]]))
    assert chosen[0, 2, 1] == cost[0, 2, 1].argmin()


def test_no_object_slots_at_all() -> None:
    assert assign(torch.zeros(2, 3, 0, 5), torch.ones(2, 3, 0, dtype=torch.bool)).shape == (2, 3, 0)


def test_too_many_ways_is_an_error_that_says_what_to_lower() -> None:
    with pytest.raises(InputError, match="max_objects"):
        assign(torch.zeros(1, 1, 9, 10), torch.ones(1, 1, 9, dtype=torch.bool))


def test_object_in_no_frame_takes_query_0_or_what_the_others_leave() -> None:
    prediction, targets = random_prediction(), rectangle_targets(objects=2)
    sizes = _full_size(targets)
    absent = targets.states_BENT.clone()
    absent[:, :, 0] = ABSENT
    with_absent = replace(targets, states_BENT=absent)
    alone = replace(with_absent, objects_BEN=torch.tensor([True, False]).expand(2, 2, 2))
    other = replace(targets, objects_BEN=torch.tensor([False, True]).expand(2, 2, 2))
    for protocol in (PUBLISHED, CORRECTED):
        chosen = match(prediction, with_absent, sizes, CONFIG, protocol).queries_BEN
        assert (match(prediction, alone, sizes, CONFIG, protocol).queries_BEN[..., 0] == 0).all()
        undisturbed = match(prediction, other, sizes, CONFIG, protocol).queries_BEN
        assert torch.equal(chosen[..., 1], undisturbed[..., 1])
        assert (chosen[..., 0] != chosen[..., 1]).all()


def test_one_object_of_two_classes_looks_at_its_own() -> None:
    prediction, targets = random_prediction(1, 1), rectangle_targets(1, 1)
    logits = torch.full((1, 1, 3, 5, 2), -4.0)
    logits[:, :, :, 1, 0] = 4
    logits[:, :, :, 4, 1] = 4
    same = prediction.boxes_BETQ4[:, :, :, :1].expand_as(prediction.boxes_BETQ4)
    masks = prediction.masks_BETQhw[:, :, :, :1].expand_as(prediction.masks_BETQhw)
    prediction = replace(prediction, logits_BETQK=logits, boxes_BETQ4=same, masks_BETQhw=masks)
    for label, query in ((0, 1), (1, 4)):
        labelled = replace(targets, labels_BEN=torch.full_like(targets.labels_BEN, label))
        assert match(prediction, labelled, _full_size(targets), CONFIG, CORRECTED).queries_BEN.item() == query


def test_more_objects_than_queries_merges_the_smallest() -> None:
    targets = rectangle_targets(1, 1, objects=4, frames=2, size=(32, 64))
    masks = torch.zeros_like(targets.masks_BENTHW)
    for n, width in enumerate((4, 20, 8, 12)):  # by area: 1, 3, 2, 0
        masks[0, 0, n, :, 4:12, 14 * n : 14 * n + width] = True
    states = targets.states_BENT.clone()
    states[0, 0, 0, 1] = ABSENT
    masks[0, 0, 0, 1] = False
    boxes = torch.tensor([[14 * n + w / 2, 8, w, 8] for n, w in enumerate((4, 20, 8, 12))]) / 64
    boxes = boxes[None, None, :, None].repeat(1, 1, 1, 2, 1)
    boxes[0, 0, 0, 1] = 0
    targets = replace(
        targets,
        masks_BENTHW=masks,
        boxes_BENT4=boxes,
        states_BENT=states,
        labels_BEN=torch.arange(4)[None, None],
    )
    merged, rows = merge_smallest(targets, 2)
    assert rows.tolist() == [[[1, 0, 1, 1]]]
    assert torch.equal(merged.masks_BENTHW[0, 0], torch.stack((masks[0, 0, 1], masks[0, 0, [0, 2, 3]].any(0))))
    both = cxcywh_to_xyxy(merged.boxes_BENT4[0, 0, 1]) * 64
    torch.testing.assert_close(both, torch.tensor([[0.0, 4, 54, 12], [28, 4, 54, 12]]))
    assert (merged.states_BENT == PRESENT).all()
    assert merged.labels_BEN.tolist() == [[[1, 3]]]

    prediction = random_prediction(1, 1, frames=2, queries=2, size=(32, 64))
    chosen = match(prediction, targets, _full_size(targets), CONFIG, CORRECTED).queries_BEN[0, 0]
    assert chosen[0] == chosen[2] == chosen[3] != chosen[1]


def test_merging_ignores_a_frame_where_a_part_is_unknown() -> None:
    targets = rectangle_targets(1, 1, objects=3)
    states = targets.states_BENT.clone()
    states[:, :, :, 0] = IGNORE
    merged, _ = merge_smallest(replace(targets, states_BENT=states), 2)
    assert merged.states_BENT[0, 0, 1].tolist() == [IGNORE, PRESENT, PRESENT]


def test_merging_keeps_empty_slots_out_whatever_they_hold() -> None:
    targets = rectangle_targets(1, 1, objects=3)
    masks, states = targets.masks_BENTHW.clone(), targets.states_BENT.clone()
    masks[0, 0, 1] = True
    states[0, 0, :, 0] = torch.tensor([ABSENT, PRESENT, ABSENT])
    states[0, 0, 1, 1] = IGNORE
    masks[0, 0, 0::2, 0] = False
    objects = torch.tensor([[[True, False, True]]])
    filled = replace(targets, masks_BENTHW=masks, states_BENT=states, objects_BEN=objects)
    merged, rows = merge_smallest(filled, 2)
    order = rows[0, 0, 0::2].argsort() * 2
    assert sorted(order.tolist()) == [0, 2]
    assert torch.equal(merged.masks_BENTHW[0, 0], masks[0, 0, order])
    assert torch.equal(merged.states_BENT[0, 0], states[0, 0, order])
    last = cxcywh_to_xyxy(targets.boxes_BENT4[0, 0, order[1], 1:])
    torch.testing.assert_close(cxcywh_to_xyxy(merged.boxes_BENT4[0, 0, 1]), torch.cat((torch.zeros(1, 4), last)))


def test_a_cell_is_what_its_centre_shows_or_the_share_that_is_covered() -> None:
    """Odd canvases end in cells that are background in part; cells whose centre is outside do not count."""
    targets = rectangle_targets(1, 1, frames=1, size=(30, 45))
    targets = replace(targets, masks_BENTHW=torch.rand(1, 1, 1, 1, 30, 45) > 0.5)
    pixels = targets.masks_BENTHW[0, 0, 0, 0].float()
    of_centres, of_shares = (
        grid_targets(targets, torch.tensor([[30, 45]]), (8, 12), 5, protocol) for protocol in (PUBLISHED, CORRECTED)
    )
    centres, shares = (truth.masks_BENThw[0, 0, 0, 0] for truth in (of_centres, of_shares))
    assert centres[3, 5] == pixels[14, 22] and set(centres.unique().tolist()) == {0, 1}
    assert shares[3, 5] == pixels[12:16, 20:24].mean() and len(shares.unique()) > 5
    for mask in (centres, shares):
        assert mask[:7, :11].any() and not mask[7].any() and not mask[:, 11].any()
    assert of_shares.pixels_Bhw[0].nonzero().amax(0).tolist() == [6, 10]
    assert of_centres.pixels_Bhw.all()
