"""J, F and their statistics: the official evaluator's numbers, published goldens and invariants."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from util import metrics, rle
from util.errors import InputError


def rectangle(size: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[rows[0] : rows[1], columns[0] : columns[1]] = True
    return mask


@pytest.mark.parametrize(
    ("shift", "j", "f"), [(0, 1, 1), (1, 0.939394, 1), (2, 0.882353, 0.515625), (4, 0.777778, 0.484375)]
)
def test_shifted_square(shift: int, j: float, f: float) -> None:
    gt = rectangle((64, 64), (16, 48), (16, 48))
    pred = rectangle((64, 64), (16, 48), (16 + shift, 48 + shift))
    assert metrics.jaccard(pred, gt) == pytest.approx(j, abs=1e-6)
    assert metrics.boundary_f(pred, gt) == pytest.approx(f, abs=1e-6)


def test_tolerance_of_a_davis_frame() -> None:
    gt = rectangle((480, 854), (100, 300), (200, 500))
    assert metrics.bound_pixels((480, 854)) == 8
    assert metrics.bound_pixels((120, 200)) == 2
    assert metrics.boundary_f(rectangle((480, 854), (100, 300), (206, 506)), gt) == 1
    assert metrics.boundary_f(rectangle((480, 854), (100, 300), (210, 510)), gt) == pytest.approx(0.614, abs=5e-4)


def test_empty_masks() -> None:
    empty, thing = np.zeros((20, 30), bool), rectangle((20, 30), (5, 9), (5, 9))
    assert (metrics.jaccard(empty, empty), metrics.boundary_f(empty, empty)) == (1, 1)
    for pair in ((empty, thing), (thing, empty)):
        assert (metrics.jaccard(*pair), metrics.boundary_f(*pair)) == (0, 0)


def test_a_full_frame_has_no_boundary() -> None:
    full = np.ones((20, 30), bool)
    assert metrics.boundary_f(full, full) == 1
    assert metrics.boundary_f(full, rectangle((20, 30), (5, 9), (5, 9))) == 0


@pytest.mark.parametrize("seed", range(12))
def test_equals_dilation_of_the_whole_frame(seed: int) -> None:
    """The crop and the distance transform give what shifting and dilating the whole frame gives."""
    rng = np.random.default_rng(seed)
    size = tuple(int(side) for side in rng.integers(9, 90, 2))
    masks = []
    for _ in range(2):
        noise = cv2.GaussianBlur(rng.random(size), (0, 0), float(rng.uniform(0.6, 5)))
        masks.append(noise > np.quantile(noise, rng.uniform(0.3, 0.95)))
    radius = int(rng.integers(1, 6))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = (x**2 + y**2 <= radius**2).astype(np.uint8)

    def outline(mask: np.ndarray) -> np.ndarray:
        right, below, diagonal = np.zeros_like(mask), np.zeros_like(mask), np.zeros_like(mask)
        right[:, :-1], below[:-1], diagonal[:-1, :-1] = mask[:, 1:], mask[1:], mask[1:, 1:]
        found = (mask ^ right) | (mask ^ below) | (mask ^ diagonal)
        found[-1], found[:, -1] = (mask ^ right)[-1], (mask ^ below)[:, -1]
        found[-1, -1] = False
        return found

    pred, gt = (outline(mask) for mask in masks)
    grown_pred, grown_gt = (cv2.dilate(edge.astype(np.uint8), disk) > 0 for edge in (pred, gt))
    precision, recall = (pred & grown_gt).sum() / pred.sum(), (gt & grown_pred).sum() / gt.sum()
    expected = 2 * precision * recall / (precision + recall)
    assert metrics.boundary_f(*masks, bound_th=radius) == pytest.approx(expected, abs=1e-12)


def test_void_pixels_do_not_count() -> None:
    gt = rectangle((40, 40), (10, 20), (10, 20))
    pred = rectangle((40, 40), (10, 20), (10, 30))
    void = rectangle((40, 40), (0, 40), (20, 40))
    assert metrics.jaccard(pred, gt) == 0.5
    assert metrics.jaccard(pred, gt, void) == 1
    assert metrics.boundary_f(pred, gt, void) == 1


def test_statistics() -> None:
    falling = metrics.statistics(np.linspace(1, 0.1, 10))
    assert falling.decay == pytest.approx(0.7)
    assert falling.recall == 0.5  # strictly above 0.5
    assert falling.mean == pytest.approx(0.55)
    assert metrics.statistics([0.5]) == metrics.Statistics(0.5, 0.0, 0.0)


def test_decay_of_a_long_video() -> None:
    """Bin edges do not wrap at 256 frames."""
    values = np.concatenate([np.ones(500), np.zeros(500)])
    assert metrics.statistics(values).decay == 1


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(InputError, match="size"):
        metrics.jaccard(np.zeros((4, 5)), np.zeros((5, 4)))
    with pytest.raises(InputError, match="frames"):
        metrics.j_and_f(np.zeros((3, 4, 5)), np.zeros((2, 4, 5)))
    with pytest.raises(InputError, match="void"):
        metrics.boundary_f(np.zeros((4, 5)), np.zeros((4, 5)), np.zeros((1, 5)))
    with pytest.raises(InputError, match="at least one"):
        metrics.statistics([])


def test_edge_cases_of_the_official_evaluator(oracles: Path) -> None:
    cases = json.loads((oracles / "metrics" / "jf_edge_cases.json").read_text())
    for case in cases:
        pred, gt = rle.decode(case["pred"]), rle.decode(case["gt"])
        void = rle.decode(case["void"]) if case["void"] else None
        bound_th = case["kw"].get("bound_th", metrics.BOUND_TH)
        assert metrics.bound_pixels(gt.shape) == case["bound_pix"], case["name"]  # listed for the default tolerance
        assert metrics.jaccard(pred, gt, void) == pytest.approx(case["J"], abs=1e-9), case["name"]
        assert metrics.boundary_f(pred, gt, void, bound_th) == pytest.approx(case["F"], abs=1e-6), case["name"]
    assert len(cases) == 20


@pytest.mark.parametrize("name", ["blackswan", "dog", "libby"])
def test_real_predictions(name: str, oracles: Path, samples: Path) -> None:
    expected = json.loads((oracles / "metrics" / "davis_osvos_expected.json").read_text())["sequences"][name]
    paths = sorted((oracles / "metrics" / "davis_osvos_predictions" / name).glob("*.png"))
    truth = samples / "real_rvos" / "Annotations" / name
    pred = np.stack([np.asarray(Image.open(path)) > 0 for path in paths])
    gt = np.stack([np.asarray(Image.open(truth / path.name)) > 0 for path in paths])
    j, f = metrics.j_and_f(pred, gt)
    assert len(j) == expected["n_frames"]
    np.testing.assert_allclose(j, expected["J_per_frame"], atol=1e-6)
    np.testing.assert_allclose(f, expected["F_per_frame"], atol=1e-6)
    inner = expected["semisup_excl_first_last"]
    for letter, values in (("J", j[1:-1]), ("F", f[1:-1])):
        found = metrics.statistics(values)
        assert found.mean == pytest.approx(inner[f"{letter}_mean"], abs=1e-9)
        assert found.recall == pytest.approx(inner[f"{letter}_recall"], abs=1e-9)
        assert found.decay == pytest.approx(inner[f"{letter}_decay"], abs=1e-9)


@pytest.mark.parametrize("size", [(37, 130), (64, 64), (50, 191), (9, 63)])
def test_pairs_equal_one_by_one_at_every_edge_of_a_word(size: tuple[int, int]) -> None:
    """Masks in the frame's corners, across word boundaries and over the whole frame, with void."""
    rng = np.random.default_rng(size[1])
    height, width = size
    masks = [rng.random(size) > 0.97, np.ones(size, bool), np.zeros(size, bool)]
    masks += [rectangle(size, (height - 5, height), (width - 4, width)), rectangle(size, (0, 4), (0, 3))]
    masks += [rectangle(size, (3, 7), (62, 66)), rectangle(size, (2, 8), (width - 9, width))]
    void = rng.random(size) > 0.9
    preds, gts = np.stack(masks), np.stack(masks[::-1])
    j, f = metrics.pairwise(preds, gts, void)
    for n, pred in enumerate(preds):
        for m, gt in enumerate(gts):
            assert (j[n, m], f[n, m]) == metrics.frame_scores(pred & ~void, gt & ~void)
    union = (preds[3] | gts[1] & ~void)[~void].sum()
    assert j[3, 1] == ((preds[3] & gts[1])[~void].sum() / union if union else 1)
