"""Losses: published numbers, what takes part in each, and the invariants of batches, micro-batches and matches."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from loss_cases import ORACLES, golden, oracle_case, random_prediction, rectangle_targets, shares
from torch import Tensor

from models.criterion import Criterion, CriterionConfig, LossOutput, Normaliser
from util.protocol import CORRECTED, PUBLISHED, Protocol
from util.types import ABSENT, IGNORE, Prediction, Targets

PROTOCOLS = pytest.mark.parametrize("protocol", [PUBLISHED, CORRECTED], ids=lambda p: p.name)
TENSORS = ("logits_BETQK", "boxes_BETQ4", "masks_BETQhw", "presence_BETQ")


def _losses(
    prediction: Prediction, targets: Targets, sizes: Tensor, protocol: Protocol, normaliser: Normaliser | None = None
) -> dict[str, Tensor]:
    return Criterion(protocol=protocol)(prediction, targets, sizes, normaliser).losses


def _full_size(targets: Targets) -> Tensor:
    return torch.tensor(targets.masks_BENTHW.shape[-2:]).expand(len(targets.masks_BENTHW), 2)


def _with_gradient(prediction: Prediction) -> Prediction:
    return replace(prediction, **{name: getattr(prediction, name).clone().requires_grad_() for name in TENSORS})


def _cut(prediction: Prediction, targets: Targets, clip: int) -> tuple[Prediction, Targets]:
    """One clip of a batch."""
    one = slice(clip, clip + 1)
    fields = {name: getattr(prediction, name)[one] for name in TENSORS}
    return replace(prediction, **fields), Targets(**{name: value[one] for name, value in vars(targets).items()})


def _mixed_targets() -> Targets:
    """Two clips of three sentences: two objects, one that comes and goes, none."""
    targets = rectangle_targets(2, 3, objects=2)
    objects = torch.tensor([[True, True], [True, False], [False, False]]).expand(2, 3, 2)
    states = targets.states_BENT.clone()
    states[:, 1, 0, 1] = ABSENT
    states[1, 0, 1, 2] = IGNORE
    masks = targets.masks_BENTHW & (states != ABSENT)[..., None, None]
    boxes = targets.boxes_BENT4 * (states != ABSENT)[..., None]
    return replace(targets, masks_BENTHW=masks, boxes_BENT4=boxes, states_BENT=states, objects_BEN=objects)


def test_published_goldens() -> None:
    prediction, targets, sizes = golden()
    criterion = Criterion(protocol=PUBLISHED)
    output = criterion(prediction, targets, sizes)
    expected = {"ce": 1.420297, "bbox": 0.785212, "giou": 1.030314, "mask": 0.171127, "dice": 0.286635}
    assert {name: round(value.item(), 6) for name, value in output.losses.items()} == pytest.approx(
        {f"loss_{name}": value for name, value in expected.items()}, abs=2e-6
    )
    assert criterion.total(output.losses).item() == pytest.approx(10.602710, abs=1e-5)
    assert output.match.queries_BEN.flatten().tolist() == [3, 1]


@pytest.mark.parametrize("name", ORACLES)
def test_oracle_losses(oracles: Path, name: str) -> None:
    """B5 has the object in no frame: the reference's matcher raises, its losses are those of query 0, which is the
    query that such an object takes here."""
    prediction, targets, sizes, golden_file = oracle_case(oracles / "referformer", name)
    criterion = Criterion(protocol=PUBLISHED)
    output = criterion(prediction, targets, sizes)
    expected = {key.removeprefix("loss."): golden_file[key].item() for key in golden_file.files if "loss." in key}
    assert {key: value.item() for key, value in output.losses.items()} == pytest.approx(expected, abs=2e-5, rel=2e-5)
    total = golden_file["total_weighted"].item()
    assert criterion.total(output.losses).item() == pytest.approx(total, abs=2e-5, rel=2e-5)
    chosen = golden_file["main.indices"].tolist() if name != "B5" else [0]
    assert output.match.queries_BEN.flatten().tolist() == chosen


@PROTOCOLS
def test_an_object_in_no_frame_is_no_error(protocol: Protocol) -> None:
    prediction, targets, sizes = golden()
    absent = replace(
        targets,
        masks_BENTHW=torch.zeros_like(targets.masks_BENTHW),
        boxes_BENT4=torch.zeros_like(targets.boxes_BENT4),
        states_BENT=torch.full_like(targets.states_BENT, ABSENT),
    )
    output = Criterion(protocol=protocol)(prediction, absent, sizes)
    assert (output.match.queries_BEN == 0).all()
    assert all(value.isfinite() for value in output.losses.values())
    positions = ("loss_bbox", "loss_giou", "loss_mask", "loss_dice")
    if protocol is PUBLISHED:  # pulled to a zero box and an empty mask, over a count of 1
        boxes = prediction.boxes_BETQ4[:, :, :, 0]
        assert output.losses["loss_bbox"].item() == pytest.approx(boxes.sum().item(), rel=1e-5)
        assert all(output.losses[name] > 0 for name in positions)
    else:
        assert all(output.losses[name] == 0 for name in positions)


def test_each_switch_changes_what_it_names_and_nothing_else() -> None:
    prediction, targets, sizes = golden()
    published = Criterion(protocol=PUBLISHED)(prediction, targets, sizes)
    changed = {
        "mask_norm": {"loss_mask", "loss_dice"},
        "mask_padding": {"loss_mask", "loss_dice"},
        "mask_targets": {"loss_mask", "loss_dice"},
        "absent_boxes": {"loss_bbox", "loss_giou"},
    }
    for switch, names in changed.items():
        protocol = replace(PUBLISHED, **{switch: getattr(CORRECTED, switch)})
        output = Criterion(protocol=protocol)(prediction, targets, sizes)
        assert torch.equal(output.match.queries_BEN, published.match.queries_BEN)
        assert {name for name in published.losses if output.losses[name] != published.losses[name]} == names, switch


def test_mask_losses_are_averages_over_clips_when_corrected() -> None:
    prediction, targets, sizes = golden()
    published = _losses(prediction, targets, sizes, PUBLISHED)
    corrected = _losses(prediction, targets, sizes, replace(PUBLISHED, mask_norm="clips"))
    for name in ("loss_mask", "loss_dice"):  # 5 frames with the object in 2 clips
        torch.testing.assert_close(corrected[name], published[name] * 5 / 2)


def test_padding_and_absent_frames_do_not_matter_when_corrected() -> None:
    prediction, targets, sizes = golden()
    boxes, masks = prediction.boxes_BETQ4.clone(), prediction.masks_BETQhw.clone()
    boxes[1, 0, 1] += 0.1  # the absent frame
    masks[1, ..., 12:, :] += 3  # 48 x 60 of 64 x 64
    masks[1, ..., 15:] += 3
    altered = replace(prediction, boxes_BETQ4=boxes, masks_BETQhw=masks)
    before, after = (_losses(p, targets, sizes, CORRECTED) for p in (prediction, altered))
    assert before == after
    before, after = (_losses(p, targets, sizes, PUBLISHED) for p in (prediction, altered))
    assert {name for name in before if before[name] != after[name]} == set(before) - {"loss_ce"}


@PROTOCOLS
def test_ignored_frames_take_part_in_nothing(protocol: Protocol) -> None:
    targets = rectangle_targets()
    states = targets.states_BENT.clone()
    states[0, 1, 0, 2] = IGNORE
    targets = replace(targets, states_BENT=states)
    prediction = _with_gradient(random_prediction())
    losses = _losses(prediction, targets, _full_size(targets), protocol)
    sum(losses.values()).backward()
    for name in TENSORS:
        gradient = getattr(prediction, name).grad
        assert not gradient[0, 1, 2].any(), name
        assert gradient[0, 1, 1].any() and gradient[1, 1, 2].any(), name

    # the rest of that clip is worth what it would be without the frame
    one, truth = _cut(prediction, targets, 0)
    one, truth = (_of_sentence(x, 1) for x in (one, truth))
    fewer = [0, 1]
    short = replace(one, **{name: getattr(one, name)[:, :, fewer] for name in TENSORS})
    short_truth = replace(
        truth,
        masks_BENTHW=truth.masks_BENTHW[:, :, :, fewer],
        boxes_BENT4=truth.boxes_BENT4[:, :, :, fewer],
        states_BENT=truth.states_BENT[:, :, :, fewer],
    )
    size = _full_size(truth)
    whole, cut = _losses(one, truth, size, protocol), _losses(short, short_truth, size, protocol)
    for name in whole:
        torch.testing.assert_close(whole[name], cut[name])


def _of_sentence(batch: Prediction | Targets, index: int) -> Prediction | Targets:
    names = TENSORS if isinstance(batch, Prediction) else vars(batch)
    return replace(batch, **{name: getattr(batch, name)[:, index : index + 1] for name in names})


def test_a_free_query_is_not_wrong_where_an_object_is_unlabelled() -> None:
    targets = rectangle_targets(1, 1, objects=2)
    states = targets.states_BENT.clone()
    states[0, 0, 1, 0] = IGNORE
    targets = replace(targets, states_BENT=states)
    prediction = _with_gradient(random_prediction(1, 1))
    output = Criterion()(prediction, targets, _full_size(targets))
    output.losses["loss_ce"].backward()
    touched = prediction.logits_BETQK.grad[0, 0, 0, :, 0] != 0
    assert touched.nonzero().flatten().tolist() == [output.match.queries_BEN[0, 0, 0].item()]
    assert (prediction.logits_BETQK.grad[0, 0, 1:] != 0).all()


@PROTOCOLS
def test_no_target_sentences_only_say_no(protocol: Protocol) -> None:
    targets = rectangle_targets()
    targets = replace(targets, objects_BEN=torch.zeros_like(targets.objects_BEN))
    prediction = _with_gradient(random_prediction())
    output = Criterion(protocol=protocol)(prediction, targets, _full_size(targets))
    assert (output.match.queries_BEN == -1).all()
    assert {name for name, value in output.losses.items() if value != 0} == {"loss_ce", "loss_presence"}
    sum(output.losses.values()).backward()
    assert (prediction.logits_BETQK.grad > 0).all() and (prediction.presence_BETQ.grad > 0).all()
    probability = prediction.logits_BETQK.sigmoid()
    negative = (0.75 * probability**2 * -(1 - probability).log()).sum()  # over a count of 1
    torch.testing.assert_close(output.losses["loss_ce"], negative)


def test_presence_of_the_matched_query() -> None:
    targets = rectangle_targets(1, 2)
    states = targets.states_BENT.clone()
    states[0, 0, 0] = torch.tensor([1, 0, 2])
    targets = replace(targets, states_BENT=states, objects_BEN=torch.tensor([[[True], [False]]]))
    prediction = random_prediction(1, 2)
    output = Criterion()(prediction, targets, _full_size(targets))
    presence = prediction.presence_BETQ[0, 0, :, output.match.queries_BEN[0, 0, 0]].tolist()
    expected = math.log1p(math.exp(-presence[0])) + math.log1p(math.exp(presence[1]))
    expected += prediction.presence_BETQ[0, 1].exp().log1p().mean(-1).sum().item()
    assert output.losses["loss_presence"].item() == pytest.approx(expected / (2 + 3), rel=1e-5)
    without = Criterion()(replace(prediction, presence_BETQ=None), targets, _full_size(targets)).losses
    assert "loss_presence" not in without
    assert without == {name: value for name, value in output.losses.items() if name != "loss_presence"}


@PROTOCOLS
def test_micro_batches_add_up_to_the_batch(protocol: Protocol) -> None:
    targets, sizes = _mixed_targets(), torch.tensor([[32, 48], [24, 40]])
    prediction = _with_gradient(random_prediction(2, 3))
    whole = _losses(prediction, targets, sizes, protocol)
    whole_gradient = torch.autograd.grad(sum(whole.values()), [getattr(prediction, name) for name in TENSORS])

    parts = [_cut(prediction, targets, clip) for clip in range(2)]
    count = Normaliser.from_targets(parts[0][1]) + Normaliser.from_targets(parts[1][1])
    assert torch.equal(count.as_tensor(), Normaliser.from_targets(targets).as_tensor())
    assert count.as_tensor().tolist() == [2 * (6 + 2) - 1, 6, 2 * (6 + 3 + 3) - 1]
    assert Normaliser.from_tensor(count.as_tensor()) == count
    added = [_losses(part, truth, sizes[n : n + 1], protocol, count) for n, (part, truth) in enumerate(parts)]
    for name in whole:
        torch.testing.assert_close(added[0][name] + added[1][name], whole[name])
    total = sum(value for losses in added for value in losses.values())
    added_gradient = torch.autograd.grad(total, [getattr(prediction, name) for name in TENSORS])
    for one, other in zip(whole_gradient, added_gradient, strict=True):
        torch.testing.assert_close(one, other)


def test_what_the_normaliser_counts() -> None:
    targets = rectangle_targets(1, 4, frames=3)
    states = torch.tensor([[1, 1, 0], [0, 0, 2], [1, 2, 2], [1, 1, 1]], dtype=torch.int8).view(1, 4, 1, 3)
    objects = torch.tensor([True, True, True, False]).view(1, 4, 1)
    count = Normaliser.from_targets(replace(targets, states_BENT=states, objects_BEN=objects))
    assert (count.frames.item(), count.clips.item(), count.presence.item()) == (2 + 0 + 1, 2, 3 + 2 + 1 + 3)


def test_sentences_are_a_batch_dimension() -> None:
    targets, prediction = _mixed_targets(), random_prediction(2, 3)
    flat = replace(prediction, **{name: getattr(prediction, name).flatten(0, 1)[:, None] for name in TENSORS})
    flat_targets = Targets(**{name: value.flatten(0, 1)[:, None] for name, value in vars(targets).items()})
    both = Criterion()(prediction, targets, _full_size(targets))
    one = Criterion()(flat, flat_targets, _full_size(flat_targets))
    assert torch.equal(both.match.queries_BEN.flatten(0, 1), one.match.queries_BEN[:, 0])
    for name in both.losses:
        torch.testing.assert_close(both.losses[name], one.losses[name])


def test_order_of_queries_and_of_objects_does_not_matter() -> None:
    targets, prediction = _mixed_targets(), random_prediction(2, 3)
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = replace(prediction, **{name: getattr(prediction, name)[:, :, :, order] for name in TENSORS})
    swapped = Targets(**{name: value.flip(2) if value.dim() > 2 else value for name, value in vars(targets).items()})
    expected = Criterion()(prediction, targets, _full_size(targets))
    output = Criterion()(shuffled, swapped, _full_size(targets))
    found = output.match.queries_BEN.flip(2)
    assert torch.equal(torch.where(found < 0, -1, order[found]), expected.match.queries_BEN)
    for name in expected.losses:
        torch.testing.assert_close(output.losses[name], expected.losses[name])


def test_what_an_empty_slot_holds_does_not_matter() -> None:
    targets, prediction = _mixed_targets(), random_prediction(2, 3)
    empty = ~targets.objects_BEN[..., None]
    filled = replace(
        targets,
        masks_BENTHW=targets.masks_BENTHW | empty[..., None, None],
        boxes_BENT4=targets.boxes_BENT4 + empty[..., None],
        states_BENT=targets.states_BENT.masked_fill(empty, IGNORE),
    )
    for protocol in (PUBLISHED, CORRECTED):
        expected = _losses(prediction, targets, _full_size(targets), protocol)
        assert _losses(prediction, filled, _full_size(targets), protocol) == expected


def test_a_perfect_answer_costs_nothing() -> None:
    targets = rectangle_targets(objects=2)
    masks = shares(targets.masks_BENTHW).transpose(2, 3).logit(1e-6)
    boxes = targets.boxes_BENT4.transpose(2, 3)
    none = torch.full((2, 2, 3, 1), -40.0)
    prediction = replace(
        random_prediction(),
        logits_BETQK=torch.cat((none, -none, -none), -1)[..., None],
        boxes_BETQ4=torch.cat((boxes[:, :, :, :1], boxes), 3),
        masks_BETQhw=torch.cat((masks[:, :, :, :1], masks), 3),
        presence_BETQ=torch.cat((none, -none, -none), -1),
    )
    output = Criterion()(prediction, targets, _full_size(targets))
    assert (output.match.queries_BEN == torch.tensor([1, 2])).all()
    assert all(value.abs() < 1e-4 for value in output.losses.values())


@pytest.mark.parametrize("name", ["loss_mask", "loss_dice", "loss_carried"])
def test_nothing_is_better_than_the_share_of_each_cell_that_is_covered(name: str) -> None:
    """Each loss alone, from an answer unsure everywhere, teaches the shares and not only where they pass 0.5."""
    targets = rectangle_targets(1, 1, frames=2)
    targets = replace(targets, masks_BENTHW=targets.masks_BENTHW.roll((1, 2), (-2, -1)))
    wanted = shares(targets.masks_BENTHW)[0, 0, 0]
    assert ((wanted > 0) & (wanted < 1)).any()
    logits = torch.zeros(2, 8, 12, requires_grad=True)
    told = torch.ones(1, 1, 2, dtype=torch.bool)
    prediction, criterion = random_prediction(1, 1, 2, queries=1), Criterion()
    optimizer = torch.optim.Adam([logits], lr=0.2)
    for _ in range(300):
        answer = replace(
            prediction, masks_BETQhw=logits[None, None, :, None], carried_BEThw=logits[None, None], told_BET=told
        )
        loss = criterion(answer, targets, _full_size(targets)).losses[name]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(logits.sigmoid(), wanted, atol=0.06, rtol=0)


def test_matched_in_each_frame_a_clip_is_many_of_one_frame() -> None:
    """Losses are those of the frames on their own, over the counts of the whole; masks count by frame, not by clip."""
    targets, prediction = _mixed_targets(), random_prediction(2, 3)
    prediction = replace(prediction, aux=(replace(random_prediction(2, 3), presence_BETQ=None),))
    prediction = replace(prediction, carried_BEThw=torch.randn(2, 3, 3, 8, 12), told_BET=torch.rand(2, 3, 3) > 0.5)
    criterion, sizes = Criterion(CriterionConfig(matched="frame")), torch.tensor([[32, 48], [30, 40]])
    output = criterion(prediction, targets, sizes)
    counts = Normaliser.from_targets(targets)
    alone = []
    for t in range(3):
        one = slice(t, t + 1)

        def cut(given: Prediction, one: slice = one) -> Prediction:
            tensors = {name: value[:, :, one] for name, value in vars(given).items() if isinstance(value, Tensor)}
            return replace(given, **tensors, aux=tuple(cut(layer) for layer in given.aux))

        truth = replace(
            targets,
            masks_BENTHW=targets.masks_BENTHW[:, :, :, one],
            boxes_BENT4=targets.boxes_BENT4[:, :, :, one],
            states_BENT=targets.states_BENT[..., one],
        )
        frame = Criterion()(cut(prediction), truth, sizes, replace(counts, clips=counts.frames))
        assert torch.equal(frame.match.queries_BEN, output.match.queries_BEN[t::3])
        alone.append(frame.losses)
    assert set(output.losses) == set(alone[0]) and "loss_carried" in output.losses
    for name, value in output.losses.items():
        torch.testing.assert_close(value, sum(losses[name] for losses in alone))
    whole = Criterion()(prediction, targets, sizes)
    assert not torch.equal(whole.match.queries_BEN.repeat_interleave(3, 0), output.match.queries_BEN)


def test_more_objects_than_queries() -> None:
    targets, prediction = rectangle_targets(objects=7), _with_gradient(random_prediction())
    output = Criterion()(prediction, targets, _full_size(targets))
    assert all(set(row.tolist()) == set(range(5)) for row in output.match.queries_BEN.flatten(0, 1))
    sum(output.losses.values()).backward()
    assert all(getattr(prediction, name).grad.isfinite().all() for name in TENSORS)


def test_auxiliary_layers_are_matched_on_their_own_and_weigh_the_same() -> None:
    targets, first, last = _mixed_targets(), random_prediction(2, 3), random_prediction(2, 3)
    first = replace(first, presence_BETQ=None)
    criterion = Criterion(CriterionConfig(ce=3.0))
    both = criterion(replace(last, aux=(first, last)), targets, _full_size(targets))
    of_first, of_last = (criterion(p, targets, _full_size(targets)) for p in (first, last))
    assert torch.equal(both.match.queries_BEN, of_last.match.queries_BEN)
    suffixed = of_last.losses | {f"{name}_0": value for name, value in of_first.losses.items()}
    suffixed |= {f"{name}_1": value for name, value in of_last.losses.items()}
    assert both.losses == suffixed
    weights = {"ce": 3, "bbox": 5, "giou": 2, "mask": 2, "dice": 5, "presence": 1}
    by_hand = sum(weights[name.split("_")[1]] * value.item() for name, value in both.losses.items())
    assert criterion.total(both.losses).item() == pytest.approx(by_hand, rel=1e-6)


def test_float32_under_autocast() -> None:
    targets, prediction = _mixed_targets(), random_prediction(2, 3)
    half = replace(prediction, **{name: getattr(prediction, name).bfloat16() for name in TENSORS})
    wide = replace(prediction, **{name: getattr(half, name).float() for name in TENSORS})
    expected: LossOutput = Criterion()(wide, targets, _full_size(targets))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output: LossOutput = Criterion()(half, targets, _full_size(targets))
    assert torch.equal(output.match.queries_BEN, expected.match.queries_BEN)
    assert all(value.dtype == torch.float32 for value in output.losses.values())
    assert output.losses == expected.losses


def test_each_loss_touches_only_its_own_output_and_only_matched_queries() -> None:
    targets, prediction = rectangle_targets(), _with_gradient(random_prediction())
    output = Criterion()(prediction, targets, _full_size(targets))
    own = {"mask": "masks_BETQhw", "dice": "masks_BETQhw", "bbox": "boxes_BETQ4", "giou": "boxes_BETQ4"}
    others = torch.ones(2, 2, 5, dtype=torch.bool).scatter(2, output.match.queries_BEN, False)
    tensors = [getattr(prediction, name) for name in TENSORS]
    for name, source in own.items():
        gradients = torch.autograd.grad(output.losses[f"loss_{name}"], tensors, retain_graph=True, allow_unused=True)
        for tensor_name, gradient in zip(TENSORS, gradients, strict=True):
            assert (gradient is not None) == (tensor_name == source)
            if gradient is not None:
                by_query = gradient.transpose(2, 3)
                assert not by_query[others].any() and by_query[~others].any()


def test_a_sentence_counts_by_its_weight() -> None:
    """Losses are sums over sentences, so those of weighted ones lie between those of none and of all."""
    targets = _mixed_targets()
    prediction = random_prediction(2, 3)
    counts = Normaliser.from_targets(targets)

    def losses(*weights: float) -> dict[str, Tensor]:
        weighted = replace(targets, weights_BE=torch.tensor(weights).expand(2, 3))
        return Criterion()(prediction, weighted, _full_size(targets), counts).losses

    everything = losses(1, 1, 1)
    plain = Criterion()(prediction, targets, _full_size(targets), counts).losses
    assert all(torch.equal(everything[name], plain[name]) for name in plain)
    parts = [losses(*(float(e == only) for e in range(3))) for only in range(3)]
    mixed = losses(1, 0.25, 0)
    for name, value in mixed.items():
        torch.testing.assert_close(value, parts[0][name] + 0.25 * parts[1][name])
        torch.testing.assert_close(everything[name], sum(part[name] for part in parts))
    assert sum(part["loss_ce"] > 0 for part in parts) == 3 and parts[2]["loss_mask"] == 0


def test_carried_masks_are_held_to_the_union_of_the_objects_where_a_mask_was_told() -> None:
    """One sentence of two objects: frame 0 shows both, 1 shows one, 2 is not labelled for one, 3 was told nothing."""
    targets = rectangle_targets(1, 1, objects=2, frames=4)
    states = targets.states_BENT.clone()
    states[0, 0, 1, 1], states[0, 0, 1, 2] = ABSENT, IGNORE
    targets = replace(targets, states_BENT=states)
    carried = torch.randn(1, 1, 4, 8, 12).requires_grad_()
    told = torch.tensor([[[True, True, True, False]]])
    prediction = replace(random_prediction(1, 1, 4), carried_BEThw=carried, told_BET=told)
    sizes = torch.tensor([[32, 40]])  # the last two columns of cells are padding
    loss = Criterion()(prediction, targets, sizes).losses["loss_carried"]
    truth = shares(targets.masks_BENTHW)[0, 0, ..., :10]
    expected = 0.0
    for frame, wanted in ((0, truth[:, 0].sum(0).clamp(max=1)), (1, truth[0, 1])):
        p = carried[0, 0, frame, :, :10].sigmoid()
        entropy = -(wanted * p.log() + (1 - wanted) * (1 - p).log()).mean()
        dice = (2 * (p * wanted).sum() + 1) / ((p**2).sum() + (wanted**2).sum() + 1)
        expected += (entropy + 1 - dice).item()
    assert loss.item() == pytest.approx(expected / 6, rel=1e-5)  # pairs of object and frame that are present
    loss.backward()
    changed = carried.grad.abs().flatten(3).sum(-1)[0, 0] > 0
    assert changed.tolist() == [True, True, False, False] and not carried.grad[..., 10:].any()
    doubted = replace(targets, weights_BE=torch.tensor([[0.25]]))
    assert Criterion()(prediction, doubted, sizes).losses["loss_carried"].item() == pytest.approx(loss.item() / 4)
    assert "loss_carried" not in Criterion()(replace(prediction, carried_BEThw=None), targets, sizes).losses
