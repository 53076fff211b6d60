"""Where queries start: the places a sentence points at, in which order, and in which rows; what is marked there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny import build, words
from torch import Tensor

from models.pointed import heat_of, peaks
from models.segmenter import Segmenter
from util.errors import InputError
from util.types import ExpressionFeatures, TrackingMemory

SHAPE = (4, 6)  # of a frame of 32 x 48
SIZE = torch.tensor([[32, 48]])


def log_shares(places: dict[tuple[int, int], float], nowhere: float = 0.0) -> Tensor:
    """A map [1, 4 * 6 + 1] with these shares at (row, column), and nearly none elsewhere."""
    shares = torch.arange(1, 25).view(SHAPE) * 1e-12  # no two alike, so that none of these is a peak but the last
    for place, share in places.items():
        shares[place] = share
    return torch.cat((shares.flatten(), torch.tensor([nowhere]))).log()[None]


def test_queries_start_at_peaks_the_strongest_first() -> None:
    """Neighbours of a peak are none, however strong; where peaks run out, the strongest others follow."""
    found = peaks(log_shares({(0, 0): 0.3, (3, 5): 0.5, (3, 4): 0.2}), SHAPE, SIZE, 4)[0]
    # 3x3 centre of mass: (3, 5) and (3, 4) pull each other together
    between = (5.5 * 0.5 + 4.5 * 0.2) / 0.7 * 8
    torch.testing.assert_close(found[0], torch.tensor([between / 48, 28 / 32]))
    torch.testing.assert_close(found[1], torch.tensor([4 / 48, 4 / 32]))
    torch.testing.assert_close(found[2], found[0])  # (3, 4) has the same things around it


def test_more_queries_than_places() -> None:
    shares = torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.0]]).log()
    found = peaks(shares, (2, 2), torch.tensor([[16, 16]]), 6)
    assert found.shape == (1, 6, 2) and torch.equal(found[:, 4:], found[:, :2])
    # all four tokens lie around each of them
    torch.testing.assert_close(found[0, 0], torch.tensor([(4 * 0.4 + 12 * 0.6) / 16, (4 * 0.3 + 12 * 0.7) / 16]))


def test_places_are_shares_of_the_frame_without_its_padding() -> None:
    map_ = log_shares({(1, 2): 1.0})
    whole, half = (peaks(map_, SHAPE, torch.tensor([size]), 1)[0, 0] for size in ((32, 48), (16, 24)))
    torch.testing.assert_close(whole * 2, half)
    torch.testing.assert_close(half, torch.tensor([20 / 24, 12 / 16]))


def test_heat_is_the_share_beside_the_greatest_as_far_as_anything_is_pointed_at() -> None:
    heat = heat_of(log_shares({(0, 0): 0.1, (2, 3): 0.4}, nowhere=0.5), SHAPE)[0]
    assert heat[2, 3].item() == pytest.approx(0.5) and heat[0, 0].item() == pytest.approx(0.125)
    assert heat.sum().item() == pytest.approx(0.625)
    assert heat_of(log_shares({(0, 0): 1e-9}, nowhere=1.0), SHAPE).max() < 1e-6


def read(model: Segmenter, frames: Tensor, sizes: Tensor | None = None) -> ExpressionFeatures:
    return model.encode_expressions(model.encode_video(frames, sizes_B2=sizes), words(model, 1, 2))


def clip() -> Tensor:
    return torch.randn(1, 2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_the_first_layer_looks_where_each_frame_points() -> None:
    model = build(grounding=True, pointed=True)
    features = read(model, clip())
    tokens = features.shapes[0][0] * features.shapes[0][1]
    aimed = features.grounding_NS.clone()
    aimed[:, :tokens] = -50.0
    for row, place in enumerate((0, 5, 40, tokens - 1)):
        aimed[row, place] = 50.0
    starts = model.decode(replace(features, grounding_NS=aimed), aux=True).aux[0].reference_points_BETQ2
    steps = model.transformer.reference_points(model.query_embed.weight)[0]  # what the first query has learned
    columns = features.shapes[0][1]
    for row, place in enumerate((0, 5, 40, tokens - 1)):
        centre = torch.tensor([(place % columns + 0.5) * 8 / 96, (place // columns + 0.5) * 8 / 64])
        torch.testing.assert_close(starts.flatten(0, 2)[row, 0], (centre.logit() + steps).sigmoid(), atol=1e-4, rtol=0)


def told(model: Segmenter, features: ExpressionFeatures) -> TrackingMemory:
    """A mask for the first sentence's first frame and the second's second."""
    masks = torch.zeros(1, 2, 2, 16, 24)
    masks[..., 3:9, 5:12] = 0.9
    present = torch.tensor([[[True, False], [False, True]]])
    return model.track(features.gather_frames(torch.tensor([[1, 0]])), masks, present)


@pytest.mark.parametrize("matching", [False, True])
@torch.no_grad()
def test_rows_that_are_told_a_mask_are_as_without_it(matching: bool) -> None:
    model = build(grounding=True, pointed=True, tracking="feature", matching=matching)
    plain = build(grounding=True, tracking="feature", matching=matching)
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if "pointed." not in name})
    features = read(model, clip())
    with_it, without = (network.decode(features, told(network, features)) for network in (model, plain))
    changed = (with_it.masks_BETQhw - without.masks_BETQhw).abs().amax((-1, -2, -3))[0]
    assert changed[0, 0] < 1e-4 > changed[1, 1]
    assert changed[0, 1] > 1e-2 < changed[1, 0]


def test_no_query_starts_in_the_padding() -> None:
    """Two columns and a row beyond the frame, which share in nothing; more queries are asked for than it has peaks."""
    inside = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(0)) / 24
    padded = torch.zeros(1, SHAPE[0] + 1, SHAPE[1] + 2)
    padded[:, : SHAPE[0], : SHAPE[1]] = inside
    plain, beside = (
        peaks(torch.cat((map_.flatten(1), torch.zeros(1, 1)), 1).log(), (map_.shape[1], map_.shape[2]), SIZE, 12)
        for map_ in (inside, padded)
    )
    torch.testing.assert_close(plain, beside)
    assert plain.unique(dim=1).shape[1] == 12


def test_every_part_of_it_learns_and_pointing_learns_from_masks() -> None:
    model = build(grounding=True, pointed=True).train()
    features = read(model, clip())
    model.decode(features).masks_BETQhw.square().sum().backward()
    for parameter in (model.pointed.memory_mark, model.pointed.mask_mark, model.transformer.reference_points.weight,
                      model.grounding_head.point.weight):  # fmt: skip
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0


def test_it_needs_something_to_point() -> None:
    with pytest.raises(InputError, match=r"model\.grounding"):
        build(pointed=True)
