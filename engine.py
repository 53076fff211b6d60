"""Training: the config of a run, its loop, one optimizer step, and what is validated and saved.

    train(config) -> Outcome

`models/training_step.py` says what a batch's losses are, `models/validation.py` how good the network is on whole
videos, `util/training_state.py` what a checkpoint on disk is. The network knows nothing of processes or precision.
"""

from __future__ import annotations

import signal
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from datasets.clips import ClipConfig
from datasets.loader import DataConfig, samples_per_epoch, train_batches
from datasets.sources import SourceConfig, eval_videos
from models.checkpoint import save_segmenter
from models.criterion import Criterion, CriterionConfig
from models.inference import InferenceConfig
from models.ops import require
from models.references import draw_references
from models.segmenter import Segmenter, SegmenterConfig
from models.start import BEFORE_ENCODER, compile_parts, sentences_of, start_segmenter, start_tokenizer
from models.tracking_training import TrackingTraining
from models.training_step import Stage, TrainingStep, accumulate
from models.validation import validate
from util.checkpoint_files import last_checkpoint, read_checkpoint, remove_unfinished, write_checkpoint
from util.config import changed_keys, to_dict
from util.distributed import World, join_world, leave_world
from util.ema import Ema
from util.errors import InputError
from util.interrupt import Interrupt
from util.logging import LossWindow, Progress, RunLog
from util.optimization import (
    OptimConfig,
    build_optimizer,
    clip_gradients,
    learning_rate_share,
    parameter_groups,
    set_learning_rates,
)
from util.report import provenance
from util.repro import stop_unless_finite
from util.training_state import (
    named_tensors,
    pack_training,
    random_tensors,
    restore_random,
    seed_everything,
    unpack_training,
)
from util.types import ClipBatch


@dataclass(frozen=True)
class ValidationConfig:
    """Held-out videos that are segmented during training; no source, no validation."""

    source: SourceConfig | None = None
    every: int | None = None  # steps; None = once per epoch
    videos: int = 8
    pictures: int = 4  # videos whose contact sheets are saved each time
    inference: InferenceConfig = field(default_factory=InferenceConfig)


@dataclass(frozen=True)
class GroundingStage:
    """A first run that trains only what comes before the encoder (`models/grounding.py`).

    It shows a network that starts from random weights many frames and sentences, at a small part of a step's cost. Runs
    that differ only in what comes after the encoder can share its `folder`: tracking, time and presence are not in it.
    """

    steps: int = 1000
    batch: int = 32
    micro_batch: int = 16
    lr: float = 1e-3  # of all parts
    warmup_steps: int = 50
    ema_decay: float | None = None
    clip: ClipConfig = field(default_factory=ClipConfig)
    weights: str | None = None  # network of which only what comes before the encoder is taken, to start from
    folder: Path | None = None  # None: output_dir/grounding


@dataclass(frozen=True)
class ChoiceStage:
    """A last run that trains only which of several tracks is meant (`models/choice.py`).

    The network stays as it is; it is read without gradients, at a small part of a step's cost.
    """

    steps: int = 600
    batch: int = 8
    micro_batch: int = 8
    lr: float = 1e-3
    warmup_steps: int = 50
    ema_decay: float | None = None
    clip: ClipConfig = field(default_factory=ClipConfig)  # frames that span a video, all of them answered
    folder: Path | None = None  # None: output_dir/choice


@dataclass(frozen=True)
class TrainConfig:
    """A whole run. Relative paths are taken from the working directory."""

    model: SegmenterConfig = field(default_factory=SegmenterConfig)
    data: DataConfig = field(default_factory=DataConfig)
    criterion: CriterionConfig = field(default_factory=CriterionConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    tracking: TrackingTraining = field(default_factory=TrackingTraining)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    grounding: GroundingStage | None = None  # a stage to begin with; needs model.grounding
    choice: ChoiceStage | None = None  # a stage to end with; needs model.grounding
    output_dir: Path = Path("output")
    weights: str | None = None  # network to start from: a checkpoint's folder or file, or a hub id
    backbone_weights: Path | None = None  # its classification weights to start from, in the first stage if there is one
    steps: int | None = None  # length in optimizer steps ...
    epochs: int | None = None  # ... or in passes over the data: give one
    batch: int = 8  # clips of one optimizer step, over all ranks
    micro_batch: int = 1  # clips that a rank computes at once; the rest of its share is accumulated
    seed: int = 42
    device: str = "auto"
    amp: bool | None = None  # bf16 autocast; None = on CUDA, except under the published protocol
    compile: bool = False
    ema_decay: float | None = None  # None = no average: the weights themselves are validated and exported
    log_every: int = 20
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    resume: str = "auto"  # "auto": go on from output_dir's last checkpoint; "never"; or a checkpoint's folder


@dataclass(frozen=True)
class Outcome:
    """step: optimizer steps done; best: highest J&F seen, or None; stopped: the signal that ended the run early."""

    step: int
    best: float | None
    stopped: signal.Signals | None = None


@dataclass
class Run:
    """Everything that training needs at hand; `step` and `best` are how far it is."""

    config: TrainConfig
    world: World
    log: RunLog
    segmenter: Segmenter
    module: nn.Module  # the TrainingStep, wrapped where there are several processes
    optimizer: torch.optim.Optimizer
    ema: Ema | None
    total: int  # optimizer steps of the whole run
    epoch: float  # optimizer steps of one unit of the schedule's milestones
    stage: Stage = "network"
    losses: LossWindow = field(default_factory=LossWindow)
    step: int = 0
    best: float | None = None


# ---- the loop --------------------------------------------------------------------------------------------------------


def train(config: TrainConfig) -> Outcome:
    """Train from where `output_dir` stands to the end, or until Ctrl-C or SIGTERM, which save first.

    Raises InputError for a config or data that cannot be trained, a full disk, and a loss that is not finite (the
    batch, weights and generator states are then saved beside the checkpoints).
    """
    # a confident network's gradients are denormal numbers, which a CPU computes with at half its speed
    torch.set_flush_denormal(True)
    world = join_world(config.device)
    with Interrupt() as interrupt:
        outcome = _train(config, world, interrupt)
    leave_world()
    return outcome


def _train(config: TrainConfig, world: World, interrupt: Interrupt) -> Outcome:
    after = _choice_run(config, config.choice) if config.choice is not None else None
    if after is None or _checkpoint(after, world) is None:
        if config.grounding is not None:
            before = _grounding_run(config, config.grounding)
            if _checkpoint(config, world) is None:
                outcome = _train_run(before, world, interrupt, "grounding")
                if outcome.stopped is not None:
                    return outcome
            config = replace(config, weights=str(before.output_dir / "model"), backbone_weights=None)
        outcome = _train_run(config, world, interrupt, "network")
        if after is None or outcome.stopped is not None:
            return outcome
    return _train_run(after, world, interrupt, "choice")


def _train_run(config: TrainConfig, world: World, interrupt: Interrupt, stage: Stage) -> Outcome:
    run = start(config, world, stage=stage)
    outcome = _loop(run, interrupt)
    run.log.close()
    return outcome


def _grounding_run(config: TrainConfig, stage: GroundingStage) -> TrainConfig:
    """The config of the stage before `config`'s own run."""
    if not config.model.grounding:
        raise InputError("a grounding stage trains the grounding head: set model.grounding to true as well")
    optim = replace(config.optim, lr=stage.lr, lr_backbone=stage.lr, lr_text_encoder=stage.lr)
    return replace(
        config,
        grounding=None,
        model=replace(config.model, tracking="none", matching=False, pointed=False, time=False, presence=False),
        weights=stage.weights or config.weights,
        output_dir=stage.folder or config.output_dir / "grounding",
        steps=stage.steps,
        epochs=None,
        batch=stage.batch,
        micro_batch=stage.micro_batch,
        ema_decay=stage.ema_decay,
        data=replace(config.data, clip=stage.clip),
        optim=replace(optim, schedule="cosine", warmup_steps=stage.warmup_steps),
        validation=ValidationConfig(),
    )


def _choice_run(config: TrainConfig, stage: ChoiceStage) -> TrainConfig:
    """The config of the stage after `config`'s own run, whose network it takes."""
    if not config.model.grounding:
        raise InputError("a choice among tracks reads where sentences point: set model.grounding to true as well")
    return replace(
        config,
        grounding=None,
        choice=None,
        model=replace(config.model, choice=True),
        weights=str(config.output_dir / "model"),
        backbone_weights=None,
        output_dir=stage.folder or config.output_dir / "choice",
        steps=stage.steps,
        epochs=None,
        batch=stage.batch,
        micro_batch=stage.micro_batch,
        ema_decay=stage.ema_decay,
        data=replace(config.data, clip=stage.clip),
        optim=replace(config.optim, lr=stage.lr, schedule="cosine", warmup_steps=stage.warmup_steps),
        validation=replace(config.validation, source=None),
    )


def _loop(run: Run, interrupt: Interrupt) -> Outcome:
    config, world = run.config, run.world
    share = config.batch // world.size
    batches = train_batches(config.data, per_rank=share, rank=world.rank, world=world.size, start=run.step)
    every = _validation_interval(config)
    progress = Progress(run.step, run.total)
    saved = run.step
    # all ranks stop at the same step, whichever of them was told to
    while run.step < run.total and not world.any(interrupt.signal is not None):
        optimise(run, next(batches))
        last = run.step == run.total
        if last or run.step % config.log_every == 0:
            report(run, progress)
        validated = every > 0 and (last or run.step % every == 0)
        improved = validated and check_quality(run)
        if last or validated or run.step % config.checkpoint_every == 0:
            save(run, best=improved)
            saved = run.step
            progress.pause()
    if saved < run.step:
        save(run)
    return _finish(run, interrupt)


def _validation_interval(config: TrainConfig) -> int:
    """Steps from one validation to the next; 0 = none."""
    if config.validation.source is None:
        return 0
    return config.validation.every or max(1, samples_per_epoch(config.data) // config.batch)


def _finish(run: Run, interrupt: Interrupt) -> Outcome:
    folder = run.config.output_dir
    if run.step < run.total:
        stopped = next(name for name in run.world.gather(interrupt.signal) if name is not None)
        run.log.say(f"{stopped.name}: saved step {run.step} in {folder}; the same command goes on from there")
        return Outcome(run.step, run.best, stopped)
    if run.config.validation.source is None:
        with _averaged(run):
            export(run)
    ready = (
        "the whole network is next"
        if run.stage == "grounding"
        else f"{folder / 'model'} is ready for `segment --weights`"
    )
    run.log.say(f"done after {run.step} steps; {ready}")
    return Outcome(run.step, run.best)


def optimise(run: Run, batch: ClipBatch) -> None:
    """One optimizer step on this rank's share of the global batch."""
    config, world = run.config, run.world
    states = random_tensors(world.device)
    set_learning_rates(run.optimizer, learning_rate_share(run.step, run.total, config.optim, run.epoch))
    run.optimizer.zero_grad(set_to_none=True)
    references = None
    if config.model.tracking != "none" and run.stage == "network":
        first_clip = run.step * config.batch + world.rank * (config.batch // world.size)
        progress = run.step / run.total
        references = draw_references(
            batch, config.tracking, progress=progress, seed=config.seed, first_clip=first_clip,
            protocol=config.model.protocol,
        )  # fmt: skip
    parts = accumulate(run.module, batch, references, world, micro_batch=config.micro_batch)
    parameters = [parameter for group in run.optimizer.param_groups for parameter in group["params"]]
    norm = clip_gradients(parameters, config.optim.clip_norm)
    stop_unless_finite(
        [(part.batch, float(part.losses["loss"])) for part in parts],
        float(norm),
        world,
        folder=config.output_dir / f"not_finite_step_{run.step:07d}",
        tensors={"model": named_tensors(run.segmenter), "random": states},
    )
    run.optimizer.step()
    run.step += 1
    run.losses.end_step([part.losses for part in parts], norm)
    if run.ema is not None:
        run.ema.update(run.step)


# ---- the beginning ---------------------------------------------------------------------------------------------------


def start(config: TrainConfig, world: World, *, stage: Stage = "network") -> Run:
    """Everything a run needs, from a checkpoint where `config.resume` finds one. Raises InputError."""
    _check(config, world)
    kernel = require(world.device)
    folder = _checkpoint(config, world)
    log = RunLog(config.output_dir, enabled=world.is_main)
    seed_everything(config.seed)
    segmenter = _network(config, world, log, overwritten=folder is not None, stage=stage)
    optimizer = build_optimizer(parameter_groups(segmenter.named_parameters(), config.optim), config.optim)
    default = world.device.type == "cuda" and config.model.protocol.name != "published"
    amp = default if config.amp is None else config.amp
    criterion = Criterion(config.criterion, config.model.protocol)
    module: nn.Module = TrainingStep(segmenter, criterion, amp=amp, stage=stage)
    if world.size > 1:
        unused = stage == "grounding"
        module = DistributedDataParallel(module, gradient_as_bucket_view=True, find_unused_parameters=unused)
    ema = Ema(segmenter, config.ema_decay) if config.ema_decay is not None else None
    epoch = samples_per_epoch(config.data) / config.batch if config.epochs else 1.0
    total = config.steps or int((config.epochs or 0) * epoch)
    run = Run(config, world, log, segmenter, module, optimizer, ema, total, epoch, stage)
    seed_everything(config.seed + world.rank)
    if folder is not None:
        resume(run, folder)
    log.open(after=run.step)
    log.event("start", run.step, ranks=world.size, deformable_attention=kernel, **provenance(world.device))
    trained = sum(p.numel() for p in segmenter.parameters() if p.requires_grad) / 1e6
    log.say(
        f"{trained:.2f} M parameters to train, {config.batch} clips a step on {world.size} x {world.device}"
        f"{' in bf16' if amp else ''}, step {run.step} of {run.total}, deformable attention: {kernel}, "
        f"output in {config.output_dir}"
    )
    return run


def _network(config: TrainConfig, world: World, log: RunLog, *, overwritten: bool, stage: Stage) -> Segmenter:
    videos = [eval_videos(source) for source in config.data.sources]
    if not world.is_main:
        world.barrier()  # the first rank may have a tokenizer to write
    tokenizer = start_tokenizer(config.model.text, config.output_dir, config.weights, sentences_of(videos))
    if world.is_main:
        world.barrier()
    segmenter = start_segmenter(
        config.model,
        tokenizer,
        weights=config.weights,
        only=BEFORE_ENCODER if stage == "grounding" else (),
        backbone_weights=config.backbone_weights,
        overwritten=overwritten,
        say=log.say,
    )
    if stage == "choice":
        assert segmenter.choice is not None
        segmenter.eval().requires_grad_(False)
        segmenter.choice.requires_grad_(True)
    if config.compile:
        compile_parts(segmenter)
    return segmenter.to(world.device)


def _check(config: TrainConfig, world: World) -> None:
    if (config.steps is None) == (config.epochs is None) or (config.steps or config.epochs or 0) < 1:
        raise InputError("give the run's length as steps or as epochs, one of them, at least 1")
    if min(config.batch, config.micro_batch, config.log_every, config.checkpoint_every, config.keep_checkpoints) < 1:
        raise InputError("batch, micro_batch, log_every, checkpoint_every and keep_checkpoints must be at least 1")
    if config.batch % world.size:
        raise InputError(f"batch {config.batch} cannot be shared by {world.size} processes; set batch to a multiple")
    if config.data.clip.protocol != config.model.protocol:
        raise InputError("model.protocol and data.clip.protocol differ; set both, for example to published")
    if config.data.clip.track_augment == "independent" and (
        config.model.tracking != "rgb" or config.tracking.self_prediction
    ):
        raise InputError(
            "data.clip.track_augment independent is TF-RVOS's recipe: it needs model.tracking rgb and "
            "tracking.self_prediction 0, for the network does not segment those frames"
        )
    if config.model.matching and (config.model.tracking == "none" or config.data.clip.track_augment == "independent"):
        raise InputError(
            "model.matching carries the masks of other frames of the clip: it needs model.tracking feature or rgb and "
            "data.clip.track_augment shared"
        )


def _checkpoint(config: TrainConfig, world: World) -> Path | None:
    """The checkpoint to go on from. Clears away what a killed process left."""
    if world.is_main:
        remove_unfinished(config.output_dir)
    world.barrier()
    if config.resume not in ("auto", "never"):
        return Path(config.resume)
    found = last_checkpoint(config.output_dir)
    if found is not None and config.resume == "never":
        raise InputError(f"{config.output_dir} holds checkpoints; give another output_dir, or go on with --resume auto")
    return found


# ---- what is watched and kept ----------------------------------------------------------------------------------------


def report(run: Run, progress: Progress) -> None:
    """Write the losses since the last report and the time that is left."""
    values = run.losses.drain(run.world)
    values["lr"] = max(group["lr"] for group in run.optimizer.param_groups)
    run.log.event("train", run.step, **values)
    run.log.say(f"{progress.at(run.step)}  loss {values['loss']:.3f}  lr {values['lr']:.2e}")


def check_quality(run: Run) -> bool:
    """Segment the held-out videos with the averaged weights, save pictures, and say whether J&F is the best yet."""
    config = run.config.validation
    assert config.source is not None
    with _averaged(run):
        summary = validate(
            run.segmenter,
            eval_videos(config.source),
            run.world,
            inference=config.inference,
            count=config.videos,
            pictures=config.pictures,
            folder=run.config.output_dir / "pictures" / f"step_{run.step:07d}",
        )
        improved = run.best is None or summary["J&F"] > run.best
        if improved:
            run.best = summary["J&F"]
            export(run)
    types = {f"J&F {name}": means["J&F"] for name, means in summary["by_type"].items()}
    facts = {name: summary[name] for name in ("J&F", "J", "F")} | types
    run.log.event("validation", run.step, **facts)
    run.log.say(f"step {run.step}: " + "  ".join(f"{name} {100 * value:.1f}" for name, value in facts.items()))
    return improved


def _averaged(run: Run) -> AbstractContextManager[None]:
    return run.ema.applied() if run.ema is not None else nullcontext()


def export(run: Run) -> None:
    """Write the weights as they are now to OUTPUT/model, which `--weights` takes."""
    if run.world.is_main:
        facts = {"step": run.step, "J&F": run.best, "inference": to_dict(run.config.validation.inference)}
        save_segmenter(run.segmenter, run.config.output_dir / "model", extra=facts)


def save(run: Run, *, best: bool = False) -> None:
    """Write a checkpoint from which training goes on bit for bit. Raises InputError when the disk is full."""
    config, world = run.config, run.world
    generators = world.gather({name: tensor.cpu() for name, tensor in random_tensors(world.device).items()})
    if world.is_main:
        tensors = pack_training(run.segmenter, run.optimizer, run.ema, generators)
        state = {"best": run.best, "ranks": world.size, "config": to_dict(config)}
        write_checkpoint(config.output_dir, run.step, tensors, state, keep=config.keep_checkpoints, best=best)
    world.barrier()


def resume(run: Run, folder: Path) -> None:
    """Put everything back to how `save` found it. Raises InputError where the checkpoint is of another network."""
    tensors, state = read_checkpoint(folder)
    unpack_training(tensors, run.segmenter, run.optimizer, run.ema, str(folder))
    run.step, run.best = state["step"], state["best"]
    changed = changed_keys(state["config"], to_dict(run.config))
    if changed:
        run.log.say(f"the config differs from the checkpoint's in {', '.join(changed)}; going on with the new one")
    same_ranks = state["ranks"] == run.world.size
    if not same_ranks or not restore_random(tensors["random"], run.world.rank, run.world.device):
        run.log.say(
            f"{folder} was saved by {state['ranks']} ranks, now {run.world.size}: dropout will draw differently"
        )
