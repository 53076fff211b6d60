"""Where gradients flow and where they are cut: the reference's norms, and the facts behind them (spec 13.6)."""

from __future__ import annotations

import numpy as np
import pytest
from loss_cases import oracle_case
from oracle import Case, config, fill, normal_weight, randn, run, tokens

from models.criterion import Criterion
from models.segmenter import Segmenter
from util.protocol import PUBLISHED


def test_gradient_norms_equal_the_reference(oracles):
    folder = oracles / "referformer"
    network = fill(Segmenter(config()), normal_weight)
    case = Case(folder, "A1")
    ids, mask = tokens([0])
    clips = [randn(*spec[:2], 3, *spec[2:]) for spec in case.meta["videos"]]
    prediction, _ = run(network, clips, network.encode_tokens(ids, mask, 1), case.meta["size_divisibility"])
    _, targets, sizes, _ = oracle_case(folder, "B2")
    criterion = Criterion(protocol=PUBLISHED)
    total = criterion.total(criterion(prediction, targets, sizes).losses)
    stored = np.load(folder / "B8_grads.npz")
    assert total.item() == pytest.approx(float(stored["total"]), abs=2e-5, rel=2e-5)
    total.backward()
    grads = {k: p.grad for k, p in network.named_parameters() if p.grad is not None}
    names = [str(n) for n in stored["names"]]
    assert set(grads) == set(names)
    ours = np.array([grads[n].norm().item() for n in names])
    np.testing.assert_allclose(ours, stored["norms"], atol=1e-5, rtol=2e-3)
    without = {k for k, p in network.named_parameters() if p.grad is None}
    assert without == {str(n) for n in stored["frozen"]}


@pytest.fixture(scope="module")
def network():
    return fill(Segmenter(config()), normal_weight)


def touched(network: Segmenter, loss) -> set[str]:
    """Names of the parameters that the loss of a small clip's prediction reaches."""
    network.zero_grad(set_to_none=True)
    ids, mask = tokens([1])
    prediction, _ = run(network, [randn(7, 1, 3, 64, 64)], network.encode_tokens(ids, mask, 1), 32)
    loss(prediction).backward()
    return {k for k, p in network.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}


def under(names: set[str], *prefixes: str) -> set[str]:
    return {n for n in names if n.startswith(prefixes)}


def test_mask_loss_does_not_move_boxes_or_classes(network):
    names = touched(network, lambda p: p.masks_BETQhw.square().mean())
    assert not under(names, "bbox_embed", "class_embed")
    assert under(names, "controller", "pixel_decoder", "transformer.decoder")


def test_last_box_loss_reaches_its_own_head_only(network):
    names = touched(network, lambda p: p.boxes_BETQ4.square().mean())
    assert {n.split(".")[1] for n in under(names, "bbox_embed")} == {"3"}
    assert not under(names, "controller", "pixel_decoder", "class_embed")


def test_first_box_loss_reaches_no_later_layer(network):
    names = touched(network, lambda p: p.aux[0].boxes_BETQ4.square().mean())
    assert under(names, "transformer.decoder.layers.0")
    assert not under(names, *(f"transformer.decoder.layers.{i}" for i in (1, 2, 3)))
    assert under(names, "transformer.reference_points", "query_embed") == {
        "transformer.reference_points.weight",
        "transformer.reference_points.bias",
        "query_embed.weight",
    }
