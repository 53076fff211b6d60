"""The hard bar: every stored output of the reference network, from weights that follow from their names."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from oracle import Case, black_out, config, fill, normal_weight, randn, run, squeeze, tokens

from models.segmenter import Segmenter, SegmenterConfig
from util.protocol import PUBLISHED

LOGITS, BOXES, MASKS, MIDDLE = (3e-5, 1e-4), (1e-5, 0.0), (3e-4, 1e-4), (1e-4, 1e-4)
TOLERANCE = {"pred_logits": LOGITS, "pred_boxes": BOXES, "pred_masks": MASKS}
EXACT = (1e-8, 1e-7)


@pytest.fixture(scope="module")
def network(oracles):
    with torch.no_grad():
        return fill(Segmenter(config(tracking="rgb")), normal_weight)


def stored_run(network: Segmenter, oracles, name: str, dtype=torch.float32):
    case = Case(oracles / "referformer", name)
    meta = case.meta
    clips = [randn(*spec[:2], 3, *spec[2:]).to(dtype) for spec in meta["videos"]]
    tracking = meta["tracking_videos"]
    if tracking:
        tracking = [black_out(randn(*spec[:2], 3, *spec[2:])).to(dtype) for spec in tracking]
    ids, mask = tokens([int(c[-1]) for c in meta["captions"]])
    with torch.no_grad():
        text = network.encode_tokens(ids, mask, len(clips))
        prediction, video = run(
            network, clips, text, meta["size_divisibility"], tracking=tracking, keep=meta["valid_indices"]
        )
    return case, prediction, video, text


def check_outputs(case: Case, prediction, tolerance) -> None:
    for name, x in squeeze(prediction).items():
        case.check(name, x, *tolerance[name])
    case.check("reference_points", prediction.reference_points_BETQ2[:, 0], *tolerance["pred_boxes"])
    for i, aux in enumerate(prediction.aux):
        for name, x in squeeze(aux).items():
            case.check(f"aux{i}.{name}", x, *tolerance[name])


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("name", ["A1", "A2", "A3", "A4", "D1", "D2"])
def test_outputs_equal_the_reference(network, oracles, name):
    case, prediction, video, text = stored_run(network, oracles, name)
    check_outputs(case, prediction, TOLERANCE)
    case.check("i.word_feat", text.words_BELC[:, 0], *MIDDLE)
    case.check("i.sent_feat", text.sentence_BEC[:, 0], *MIDDLE)
    if case.meta["valid_indices"] is None:
        for level, features in enumerate(video.backbone):
            case.check(f"i.cur.feat{level}", features, *MIDDLE)


@pytest.mark.parametrize("name", ["A1", "A2", "D2"])
def test_intermediates_equal_the_reference(network, oracles, name):
    case, prediction, video, text = stored_run(network, oracles, name)
    with torch.no_grad():
        features = network.encode_expressions(video, text)
    case.check("i.cur.encoder_memory", features.memory_NSC, *MASKS)
    case.check("i.mask_features", features.mask_features_NChw, *MASKS)
    layers = [*prediction.aux, prediction]
    embeddings = torch.stack([p.embeddings_BETQC.flatten(0, 2) for p in layers])
    case.check("i.hs", embeddings, *MIDDLE)
    case.check("i.dyn_params", network.controller(embeddings), *MIDDLE)
    boxes = torch.stack([p.boxes_BETQ4.flatten(0, 2) for p in layers])
    case.check("i.inter_references", boxes, *BOXES)


def test_tracking_with_its_own_valid_ratios(network, oracles):
    """The corrected ratio (T2) is what the repaired reference prints."""
    protocol = dataclasses.replace(PUBLISHED, track_valid_ratio="own")
    published, network.config = network.config, dataclasses.replace(network.config, protocol=protocol)
    try:
        _, prediction, _, _ = stored_run(network, oracles, "D2")
    finally:
        network.config = published
    fixed = Case(oracles / "referformer", "D2_fixvr")
    for name, x in squeeze(prediction).items():
        fixed.check(name, x, *TOLERANCE[name])


@pytest.mark.parametrize("name", ["A1", "A2", "A3", "D1", "D2"])
def test_float64_run(network, oracles, name):
    """In float64 nothing is left but the reference's own float32 sine codes."""
    double = copy.deepcopy(network).double()
    _, prediction, _, _ = stored_run(double, oracles, name, torch.float64)
    case = Case(oracles / "referformer", f"{name}_f64")
    check_outputs(case, prediction, dict.fromkeys(TOLERANCE, EXACT))


ADDITIONS = dict(time=True, presence=True, tracking="feature")


@pytest.mark.parametrize("name", ["A1", "A2"])
def test_additions_at_their_initial_value_change_nothing(oracles, name):
    """Time's gate is zero, presence only reads, tracking is skipped: the released outputs stay."""
    with torch.no_grad():
        extended = fill(Segmenter(config(**ADDITIONS)), normal_weight)
    case, prediction, _, _ = stored_run(extended, oracles, name)
    check_outputs(case, prediction, TOLERANCE)
    assert prediction.presence_BETQ is not None


def test_keys_are_the_oracles(network, oracles):
    lines = (oracles / "referformer" / "keys_r50_oracle.txt").read_text().splitlines()
    rows = [line.split() for line in lines if line[0] != "#"]
    stored = {key: tuple(map(int, shape.split("x"))) for key, shape, _, kind in rows if kind != "a"}
    assert {k: tuple(v.shape) for k, v in network.state_dict().items()} == stored


def test_default_config_is_referformer():
    assert SegmenterConfig().tracking == "none"
    assert not SegmenterConfig().time
    assert not SegmenterConfig().presence
