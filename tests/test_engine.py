"""engine.py and what it is made of: accumulation, references, validation, precision, refusals, and that it learns."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from micro_run import WORLD, micro_config, one_thread  # noqa: F401
from safetensors.torch import load_file
from torch import Tensor, nn

import engine
from datasets.loader import train_batches
from engine import ChoiceStage, GroundingStage, TrainConfig, start, train
from models.checkpoint import load_segmenter, read_info
from models.references import draw_references
from models.start import BEFORE_ENCODER, compile_parts
from models.tracking_training import CorruptionConfig, TrackingTraining
from models.training_step import accumulate, cut_batch
from util.distributed import World
from util.errors import InputError
from util.protocol import PUBLISHED
from util.repro import load_batches, save_repro
from util.types import ABSENT, IGNORE, ClipBatch, Targets

ALONE = World(0, 1, torch.device("cpu"))
PLAIN = CorruptionConfig(erode=0, dilate=0, boundary=0, drop=0, wrong_object=0, stale=0, jitter=0)


def clip_config(folder: Path, frames: int = 2, **changes: object) -> TrainConfig:
    config = micro_config(folder, **changes)
    return replace(config, data=replace(config.data, clip=replace(config.data.clip, frames=frames)))


def events(folder: Path, kind: str) -> list[dict]:
    lines = (json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines())
    return [line for line in lines if line["event"] == kind]


# ---- gradients -------------------------------------------------------------------------------------------------------


def gradients(run: engine.Run, batch: ClipBatch, micro_batch: int, progress: float = 1.0) -> dict[str, Tensor]:
    run.optimizer.zero_grad()
    told = draw_references(batch, run.config.tracking, progress=progress, seed=1, first_clip=0)
    accumulate(run.module, batch, told, ALONE, micro_batch=micro_batch)
    return {name: p.grad.clone() for name, p in run.segmenter.named_parameters() if p.grad is not None}


def test_accumulated_gradients_are_those_of_the_big_batch(tmp_path: Path) -> None:
    """Dropout 0, equal sizes, unequal numbers of valid frames: 4 clips at once, in pairs, one by one."""
    config = clip_config(tmp_path, batch=4)
    run = start(config, ALONE)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # sampling points start on the pixels' lattice, where rounding decides the slope
        for parameter in run.segmenter.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    batch = next(train_batches(config.data, per_rank=4))
    states = batch.targets.states_BENT.clone()
    states[0], states[1, ..., 0] = ABSENT, ABSENT
    batch = replace(batch, targets=replace(batch.targets, states_BENT=states))
    whole = gradients(run, batch, 4)
    for micro_batch in (2, 1, 3):
        for name, gradient in gradients(run, batch, micro_batch).items():
            torch.testing.assert_close(gradient, whole[name], atol=2e-4, rtol=1e-3, msg=f"{name} by {micro_batch}")


def test_every_trained_parameter_gets_a_gradient_in_clips_of_one_and_of_two_frames(tmp_path: Path) -> None:
    """What the wrapper for several processes relies on: no parameter may be left out of a step."""
    config = clip_config(tmp_path)
    config = replace(config, model=replace(config.model, matching=True))
    run = start(config, ALONE)
    trained = {name for name, p in run.segmenter.named_parameters() if p.requires_grad}
    for frames in (1, 2):
        data = replace(config.data, clip=replace(config.data.clip, frames=frames))
        assert gradients(run, next(train_batches(data, per_rank=2)), 2).keys() == trained


@pytest.mark.parametrize("matching", [False, True])
def test_bf16_autocast_keeps_losses_close_and_gradients_whole(tmp_path: Path, matching: bool) -> None:
    """With the network's own masks, decoded without gradient first: autocast must not reuse those bf16 weights."""
    config = clip_config(tmp_path, tracking={"drop_all": 0.0, "self_prediction": 1.0, "warmup": 0.0})
    config = replace(config, model=replace(config.model, matching=matching))
    run = start(config, ALONE)
    batch = next(train_batches(config.data, per_rank=2))
    exact = gradients(run, batch, 2)
    run.module.amp = True
    rounded = gradients(run, batch, 2)
    assert rounded.keys() == exact.keys()
    flat = [torch.cat([g.flatten() for g in named.values()]) for named in (exact, rounded)]
    assert nn.functional.cosine_similarity(*flat, dim=0) > 0.98
    assert all(gradient.any() for name, gradient in rounded.items() if exact[name].abs().max() > 1e-3)


def test_compiled_parts_give_what_eager_ones_give(tmp_path: Path) -> None:
    """Graphs, forward and backward, without the machine code that a compiler makes of them."""
    config = clip_config(tmp_path)
    run = start(config, ALONE)
    batch = next(train_batches(config.data, per_rank=2))
    names = list(run.segmenter.state_dict())
    # without its own masks: at the start of training rounding decides which of their pixels are above one half
    eager = gradients(run, batch, 2, progress=0.0)
    compile_parts(run.segmenter, backend="aot_eager")
    compiled = gradients(run, batch, 2, progress=0.0)
    torch.compiler.reset()
    assert list(run.segmenter.state_dict()) == names
    for name, gradient in compiled.items():
        torch.testing.assert_close(gradient, eager[name], atol=1e-4, rtol=1e-3, msg=name)


# ---- references ------------------------------------------------------------------------------------------------------


def batch_of(config: TrainConfig, clips: int) -> ClipBatch:
    return next(train_batches(config.data, per_rank=clips))


def covered(batch: ClipBatch) -> Tensor:
    """The shares of stride-4 cells that each sentence's objects cover."""
    cells = batch.targets.masks_BENTHW.any(2).float().unflatten(-1, (-1, 4)).unflatten(-3, (-1, 4))
    return cells.mean((-3, -1))


def test_references_are_the_masks_of_their_frames(tmp_path: Path) -> None:
    batch = batch_of(clip_config(tmp_path, frames=4), 4)
    batch.targets.masks_BENTHW[0, ..., 1, :, :] = False
    batch.targets.states_BENT[0, ..., 1] = ABSENT
    batch.targets.states_BENT[1, ..., 2] = IGNORE
    told = draw_references(batch, TrackingTraining(drop_all=0, corruption=PLAIN), progress=0.0, seed=3, first_clip=0)
    assert told is not None
    assert (told.index_BT - torch.arange(4)).abs().eq(1).all()
    # where the reference frame is not labelled there is no true mask, and the network's own takes its place
    assert torch.equal(told.blind_BET[:, 0], (told.index_BT == 2) & (torch.arange(4) == 1)[:, None]) and told.some_own
    assert not told.own_BET.any()
    true_BEThw = covered(batch)
    true_BEThw[1, :, 2] = 0
    for b, index_T in enumerate(told.index_BT):
        assert torch.equal(told.masks_BEThw[b], true_BEThw[b][:, index_T])
    assert ((true_BEThw > 0) & (true_BEThw < 1)).any()
    assert torch.equal(told.present_BET, told.masks_BEThw.flatten(-2).amax(-1) > 0.5)
    hidden = (told.index_BT[0] == 1, told.index_BT[1] == 2)
    assert hidden[0].any() and hidden[1].any()
    assert not told.present_BET[0, 0, hidden[0]].any() and not told.present_BET[1, 0, hidden[1]].any()
    assert told.present_BET[2:].any()


def test_references_belong_to_the_clip_not_to_its_place(tmp_path: Path) -> None:
    batch = batch_of(clip_config(tmp_path, frames=3), 4)
    config = TrackingTraining(self_prediction=0.5, warmup=0.0)
    whole = draw_references(batch, config, progress=1.0, seed=3, first_clip=8)
    later = draw_references(
        replace(batch, captions=batch.captions[2:], targets=_rows(batch, 2)),
        config,
        progress=1.0,
        seed=3,
        first_clip=10,
    )
    assert whole is not None and later is not None
    assert torch.equal(whole.masks_BEThw[2:], later.masks_BEThw) and torch.equal(whole.own_BET[2:], later.own_BET)
    assert torch.equal(whole.clips(2, 4).index_BT, later.index_BT)


def _rows(batch: ClipBatch, start: int) -> Targets:
    return replace(batch.targets, **{name: tensor[start:] for name, tensor in vars(batch.targets).items()})


def test_clips_of_one_frame_are_told_nothing(tmp_path: Path) -> None:
    assert (
        draw_references(
            batch_of(clip_config(tmp_path, frames=1), 2), TrackingTraining(), progress=0.5, seed=1, first_clip=0
        )
        is None
    )


def test_the_networks_own_mask_takes_the_true_ones_place_where_it_shows_the_same_thing(tmp_path: Path) -> None:
    """Clip 0 is answered nearly right by its second query, clip 1 with another thing by its first."""
    config = clip_config(tmp_path, frames=3)
    run, batch = start(config, ALONE), batch_of(config, 2)
    always = TrackingTraining(drop_all=0.0, self_prediction=1.0, warmup=0.0, corruption=PLAIN)
    told = draw_references(batch, always, progress=1.0, seed=1, first_clip=0)
    assert told is not None and told.some_own and told.own_BET.all() and not told.blind_BET.any()
    with torch.no_grad():
        features = run.segmenter.encode_expressions(
            run.segmenter.encode_video(batch.frames_BTCHW, batch.times_BT), run.segmenter.encode_text(batch.captions)
        )
        given = run.segmenter.decode(features)
    true_BEThw = covered(batch)
    masks, logits = given.masks_BETQhw.clone(), torch.full_like(given.logits_BETQK, -3.0)
    logits[0, :, :, 1], logits[1, :, :, 0] = 3.0, 3.0
    masks[0, :, :, 1] = (0.8 * true_BEThw[0] + 0.1).logit()
    masks[1, :, :, 0] = (0.9 - 0.8 * true_BEThw[1]).logit()
    seen = torch.full_like(given.presence_BETQ, 5.0)
    sure = replace(given, logits_BETQK=logits, masks_BETQhw=masks, presence_BETQ=seen)
    own, t = told.with_own(sure), 2
    assert told.present_BET[:, 0, t].all()
    torch.testing.assert_close(own.masks_BEThw[0, 0, t], 0.8 * true_BEThw[0, 0, told.index_BT[0, t]] + 0.1)
    assert torch.equal(own.masks_BEThw[1], told.masks_BEThw[1])
    assert torch.equal(own.present_BET, told.present_BET)
    # what it does not find is told all the same; without a true mask its own is taken as it is
    lost = replace(sure, presence_BETQ=-seen)
    assert torch.equal(told.with_own(lost).masks_BEThw, told.masks_BEThw)
    blind = replace(told, blind_BET=torch.ones_like(told.own_BET))
    torch.testing.assert_close(blind.with_own(sure).masks_BEThw[1, 0, t], masks[1, 0, told.index_BT[1, t], 0].sigmoid())
    assert blind.with_own(sure).present_BET.all() and not blind.with_own(lost).present_BET.any()


def apart_config(folder: Path, frames: int = 2, **changes: object) -> TrainConfig:
    """TF-RVOS's recipe: neighbours augmented on their own, true masks only."""
    config = clip_config(folder, frames, tracking={"drop_all": 0.0, "self_prediction": 0.0}, **changes)
    transform = replace(config.data.clip.transform, short_sides=(32, 48, 64), max_side=96)
    clip = replace(config.data.clip, transform=transform, track_augment="independent")
    model = replace(config.model, tracking="rgb")
    return replace(config, data=replace(config.data, clip=clip), model=model)


@pytest.mark.parametrize("frames", [1, 3])
def test_neighbours_of_their_own_augmentation_are_the_references(tmp_path: Path, frames: int) -> None:
    config = apart_config(tmp_path, frames)
    batch = batch_of(config, 4)
    beside = batch.neighbours
    assert beside is not None and not torch.equal(beside.sizes_B2, batch.sizes_B2)
    beside.targets.states_BENT[1, ..., 0] = IGNORE
    told = draw_references(batch, replace(config.tracking, corruption=PLAIN), progress=1.0, seed=3, first_clip=0)
    assert told is not None and not told.some_own and torch.equal(told.index_BT, torch.arange(frames).expand(4, -1))
    true_BEThw = covered(beside)
    true_BEThw[1, :, 0] = 0  # no true mask, and the network has none of a frame that it does not segment
    assert torch.equal(told.masks_BEThw, true_BEThw)
    assert torch.equal(told.present_BET, true_BEThw.flatten(-2).amax(-1) > 0.5) and told.present_BET.any()
    centres = draw_references(
        batch, replace(config.tracking, corruption=PLAIN), progress=1.0, seed=3, first_clip=0, protocol=PUBLISHED
    )
    assert centres is not None and set(centres.masks_BEThw.unique().tolist()) == {0, 1}


def test_neighbours_reach_the_network_the_micro_batches_and_a_saved_batch(tmp_path: Path) -> None:
    config = apart_config(tmp_path, batch=2)
    run = start(config, ALONE)
    batch = batch_of(config, 2)
    equal = replace(batch, neighbours=replace(batch, neighbours=None))  # told of the very frames it segments
    assert batch.neighbours is not None
    seen = gradients(run, batch, 2)
    assert any(not torch.allclose(g, seen[name], rtol=1e-2) for name, g in gradients(run, equal, 2).items())
    assert seen.keys() == {name for name, p in run.segmenter.named_parameters() if p.requires_grad}
    parts = [cut_batch(batch, n, n + 1).neighbours for n in (0, 1)]
    assert torch.equal(torch.cat([part.frames_BTCHW for part in parts if part]), batch.neighbours.frames_BTCHW)
    (again,) = load_batches(save_repro(tmp_path / "repro", [batch], {}))
    assert again.neighbours is not None
    assert torch.equal(again.neighbours.frames_BTCHW, batch.neighbours.frames_BTCHW)
    assert torch.equal(again.neighbours.targets.masks_BENTHW, batch.neighbours.targets.masks_BENTHW)
    assert torch.equal(again.targets.masks_BENTHW, batch.targets.masks_BENTHW)


@pytest.mark.parametrize("tracking, own", [("feature", 0.0), ("rgb", 0.5)])
def test_neighbours_of_their_own_need_the_rgb_stream_and_true_masks(tmp_path: Path, tracking: str, own: float) -> None:
    config = apart_config(tmp_path)
    config = replace(
        config,
        model=replace(config.model, tracking=tracking),
        tracking=replace(config.tracking, self_prediction=own),
    )
    with pytest.raises(InputError, match="track_augment"):
        start(config, ALONE)


@pytest.mark.parametrize("tracking, augment", [("none", "shared"), ("rgb", "independent")])
def test_masks_are_carried_from_frames_that_the_network_has_read(tmp_path: Path, tracking: str, augment: str) -> None:
    config = apart_config(tmp_path)
    clip = replace(config.data.clip, track_augment=augment)
    model = replace(config.model, tracking=tracking, matching=True)
    with pytest.raises(InputError, match="matching"):
        start(replace(config, model=model, data=replace(config.data, clip=clip)), ALONE)


def grounded_config(folder: Path) -> TrainConfig:
    """Four steps of the grounding stage, three of the whole network."""
    config = clip_config(folder, steps=3)
    clip = replace(config.data.clip, frames=1, expressions=2)
    stage = GroundingStage(steps=4, batch=4, micro_batch=2, warmup_steps=1, ema_decay=0.5, clip=clip)
    return replace(config, model=replace(config.model, grounding=True, matching=True, pointed=True), grounding=stage)


# ---- a run -----------------------------------------------------------------------------------------------------------


def test_it_learns_and_validates_and_exports(tmp_path: Path) -> None:
    """Forty steps on two videos bring the loss down; J&F, pictures and the average's weights come out."""
    source = {"kind": "synthetic", "synthetic": {"videos": 2, **WORLD, "frames": 3}}
    validation = {
        "source": source, "every": 20, "videos": 2, "pictures": 1,
        "inference": {"short_side": 32, "max_side": 64, "window": 2},
    }  # fmt: skip
    # a seed whose losses fall well below the bound: others come so near it that rounding decides
    config = clip_config(tmp_path, steps=40, seed=1, validation=validation, optim={"lr": 2e-3, "clip_norm": 1.0})
    config = replace(config, data=replace(config.data, sources=(replace(config.validation.source, split="train"),)))
    outcome = train(config)
    losses = [line["loss"] for line in events(tmp_path, "train")]
    assert sum(losses[-8:]) < 0.8 * sum(losses[:8])
    seen = events(tmp_path, "validation")
    assert [line["step"] for line in seen] == [20, 40]
    assert outcome.best == max(line["J&F"] for line in seen)
    best = json.loads((tmp_path / "best").read_text())
    assert best["step"] == next(line["step"] for line in seen if line["J&F"] == outcome.best)
    assert len(list(tmp_path.glob("pictures/step_*/*.jpg"))) == 2
    exported = load_segmenter(tmp_path / "model")
    average = load_file(tmp_path / f"step_{best['step']:07d}" / "ema.safetensors")
    assert all(torch.equal(p, average[name]) for name, p in exported.named_parameters())
    assert read_info(tmp_path / "model").extra["step"] == best["step"]


def test_a_grounding_stage_trains_what_comes_before_the_encoder_and_the_run_goes_on_from_it(tmp_path: Path) -> None:
    """Only its loss, only its parts; then the whole network starts from its average."""
    config = grounded_config(tmp_path)
    plain = replace(config.model, pointed=False)  # which changes how the decoder starts
    random = start(replace(config, grounding=None, model=plain, output_dir=tmp_path / "random"), ALONE)
    untouched = random.segmenter.state_dict()
    train(config)
    lines = events(tmp_path / "grounding", "train")
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert {name for name in lines[0] if name.startswith("loss_")} == {"loss_grounding"}
    stage = load_segmenter(tmp_path / "grounding" / "model").state_dict()
    changed = {name.split(".")[0] for name in stage if not torch.equal(stage[name], untouched[name])}
    assert changed == {"backbone", "input_proj", "text_encoder", "resizer", "fusion_module", "grounding_head"}
    main = events(tmp_path, "train")
    assert [line["step"] for line in main] == [1, 2, 3]
    assert {"loss_grounding", "loss_dice", "loss_ce"} <= main[0].keys()
    again = start(
        replace(config, grounding=None, output_dir=tmp_path / "again", weights=str(tmp_path / "grounding" / "model")),
        ALONE,
    )
    first = next(engine.train_batches(config.data, per_rank=2))
    engine.optimise(again, first)
    assert again.losses.drain(ALONE)["loss"] == pytest.approx(main[0]["loss"], rel=1e-5)


def chosen_config(folder: Path) -> TrainConfig:
    """Two steps of the network, three of the choice among tracks."""
    config = clip_config(folder, steps=2)
    stage = ChoiceStage(steps=3, batch=4, micro_batch=2, clip=replace(config.data.clip, expressions=2))
    return replace(config, model=replace(config.model, grounding=True), choice=stage, ema_decay=0.5)


def test_a_choice_stage_trains_nothing_else_on_the_finished_network(tmp_path: Path) -> None:
    """OUTPUT/model is the network; OUTPUT/choice/model is the same, bit for bit, with a choice that has learned."""
    config = chosen_config(tmp_path)
    outcome = train(config)
    assert outcome.step == 3 and [line["step"] for line in events(tmp_path, "train")] == [1, 2]
    lines = events(tmp_path / "choice", "train")
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert {name for name in lines[0] if name.startswith("loss_")} == {"loss_choice"}
    network, chosen = (load_segmenter(folder / "model") for folder in (tmp_path, tmp_path / "choice"))
    assert network.choice is None and chosen.choice is not None
    before, after = network.state_dict(), chosen.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert {name.split(".")[0] for name in after.keys() - before.keys()} == {"choice"}
    again = start(engine._choice_run(config, config.choice), ALONE, stage="choice")
    first = {name for name, p in again.segmenter.named_parameters() if p.requires_grad}
    assert first and all(name.startswith("choice.") for name in first)


def test_a_run_that_was_stopped_in_its_choice_stage_goes_on_there(tmp_path: Path) -> None:
    """Neither the network is trained again, nor the steps of the stage that are done."""
    config = chosen_config(tmp_path)
    train(replace(config, choice=replace(config.choice, steps=1)))
    network = (tmp_path / "model" / "model.safetensors").stat().st_mtime_ns
    assert train(config).step == 3
    assert [line["step"] for line in events(tmp_path, "train")] == [1, 2]
    assert [line["step"] for line in events(tmp_path / "choice", "train")] == [1, 2, 3]
    assert (tmp_path / "model" / "model.safetensors").stat().st_mtime_ns == network


def test_a_choice_stage_in_bf16_loses_little(tmp_path: Path) -> None:
    losses = []
    for amp in (False, True):
        config = replace(chosen_config(tmp_path / str(amp)), amp=amp, steps=1)
        train(replace(config, choice=replace(config.choice, steps=1)))
        losses.append(events(tmp_path / str(amp) / "choice", "train")[0]["loss_choice"])
    assert losses[0] > 0 and losses[1] == pytest.approx(losses[0], rel=0.05)


def test_a_choice_stage_needs_the_grounding_head(tmp_path: Path) -> None:
    config = chosen_config(tmp_path)
    with pytest.raises(InputError, match=r"model\.grounding"):
        train(replace(config, model=replace(config.model, grounding=False)))


def test_runs_that_differ_behind_the_encoder_share_a_grounding_stage(tmp_path: Path) -> None:
    """The second finds the stage done; a stage that starts from weights takes only its own parts of them."""
    config = grounded_config(tmp_path / "first")
    assert config.grounding is not None
    train(replace(config, grounding=replace(config.grounding, folder=tmp_path / "shared")))
    begun = events(tmp_path / "shared", "train")
    told = replace(config.tracking, drop_all=1.0)
    second = replace(config, output_dir=tmp_path / "second", tracking=told)
    train(replace(second, grounding=replace(config.grounding, folder=tmp_path / "shared")))
    assert events(tmp_path / "shared", "train") == begun
    assert len(events(tmp_path / "second", "train")) == 3

    given = str(tmp_path / "first" / "model")
    later = replace(config.grounding, weights=given, folder=None, steps=1, lr=1e-12)
    train(replace(config, output_dir=tmp_path / "third", grounding=later, steps=1))
    weights = load_segmenter(given).state_dict()
    stage = load_segmenter(tmp_path / "third" / "grounding" / "model").state_dict()
    taken = {name for name in stage if torch.allclose(stage[name], weights[name], atol=1e-6)}
    of_stage = {name for name in stage if name.startswith(BEFORE_ENCODER)}
    assert of_stage <= taken
    assert any(name not in taken for name in stage if name.startswith("transformer.decoder"))


def test_a_grounding_stage_that_was_stopped_goes_on_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(grounded_config(tmp_path / "straight"))
    batches = engine.train_batches

    def interrupted(*arguments: object, **named: object) -> Iterator[ClipBatch]:
        for step, batch in enumerate(batches(*arguments, **named)):
            if step == 1:
                signal.raise_signal(signal.SIGTERM)
            yield batch

    monkeypatch.setattr(engine, "train_batches", interrupted)
    stopped = train(grounded_config(tmp_path / "stopped"))
    assert (stopped.step, stopped.stopped) == (2, signal.SIGTERM)
    assert not (tmp_path / "stopped" / "model").exists()
    monkeypatch.undo()
    assert train(grounded_config(tmp_path / "stopped")).step == 3
    one, other = (load_file(tmp_path / run / "step_0000003" / "model.safetensors") for run in ("straight", "stopped"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_loss_that_is_not_finite_names_its_batch_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(clip_config(tmp_path, steps=2))
    batches = engine.train_batches

    def poisoned(*arguments: object, **named: object) -> Iterator[ClipBatch]:
        for batch in batches(*arguments, **named):
            batch.frames_BTCHW[1, 0, 0, 0, 0] = float("inf")
            yield batch

    monkeypatch.setattr(engine, "train_batches", poisoned)
    with pytest.raises(InputError, match="not finite") as raised:
        train(clip_config(tmp_path, steps=4, micro_batch=1))
    folder = tmp_path / "not_finite_step_0000002" / "rank_0"
    assert str(folder) in str(raised.value)
    (batch,) = load_batches(folder)  # only the second clip's loss is to blame
    assert batch.identity[0] in str(raised.value)
    assert batch.captions == json.loads((folder / "batches.json").read_text())["batches"][0]["captions"]
    assert torch.isinf(batch.frames_BTCHW).sum() == 1
    weights = load_file(folder / "model.safetensors")
    before = load_file(tmp_path / "step_0000002" / "model.safetensors")
    assert all(torch.equal(weights[key], before[key]) for key in before)


def test_bad_configs_are_refused(tmp_path: Path) -> None:
    config = micro_config(tmp_path)
    for changed, message in (
        (replace(config, epochs=1), "steps or as epochs"),
        (replace(config, steps=None), "steps or as epochs"),
        (replace(config, micro_batch=0), "at least 1"),
        (replace(config, model=replace(config.model, protocol=PUBLISHED)), "protocol"),
        (replace(config, resume=str(tmp_path / "none")), "not a readable checkpoint"),
        (
            replace(config, optim=replace(config.optim, lr=0.0, lr_backbone=0.0, lr_text_encoder=0.0)),
            "nothing to train",
        ),
    ):
        with pytest.raises(InputError, match=message):
            start(changed, ALONE)
    with pytest.raises(InputError, match=r"set model\.grounding"):
        train(replace(config, grounding=GroundingStage(steps=1)))
    with pytest.raises(InputError, match="cannot be shared by 3"):
        start(config, World(0, 3, torch.device("cpu")))


def test_never_resuming_does_not_overwrite(tmp_path: Path) -> None:
    (tmp_path / "step_0000003").mkdir()
    (tmp_path / "step_0000003" / "state.json").write_text("{}")
    with pytest.raises(InputError, match="holds checkpoints"):
        start(micro_config(tmp_path, resume="never"), ALONE)
