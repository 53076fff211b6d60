"""AdamW with the published parameter groups, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from util.errors import InputError


@dataclass(frozen=True)
class OptimConfig:
    """ReferFormer's fine-tuning defaults; a group whose rate is 0 is frozen."""

    lr: float = 1e-4
    lr_backbone: float = 5e-5
    lr_text_encoder: float = 1e-5
    lr_linear_proj_mult: float = 1.0  # on reference points and sampling offsets
    weight_decay: float = 5e-4  # on every parameter, norms and biases too, as published
    clip_norm: float = 0.1  # of the gradient of all parameters together; 0 = no clipping
    schedule: Literal["multistep", "cosine", "constant"] = "multistep"
    milestones: tuple[float, ...] = ()  # multistep: when to multiply by gamma, in epochs (in steps if the run is)
    gamma: float = 0.1
    final_share: float = 0.0  # cosine: share of the rate left at the end
    warmup_steps: int = 0


def parameter_groups(named: Iterable[tuple[str, nn.Parameter]], config: OptimConfig) -> list[dict]:
    """AdamW groups by substring of the name, first match first; each carries its full rate as "base_lr".

    `backbone.0` -> lr_backbone; `text_encoder` -> lr_text_encoder; `reference_points` or `sampling_offsets` -> lr x
    lr_linear_proj_mult; the rest -> lr. Parameters that need no gradient are left out; those of a group whose rate is
    0 are frozen here.
    """
    rules = {
        "backbone": (("backbone.0",), config.lr_backbone),
        "text_encoder": (("text_encoder",), config.lr_text_encoder),
        "linear_proj": (("reference_points", "sampling_offsets"), config.lr * config.lr_linear_proj_mult),
        "rest": (("",), config.lr),
    }
    groups: dict[str, list[nn.Parameter]] = {name: [] for name in rules}
    for name, parameter in named:
        group = next(g for g, (substrings, _) in rules.items() if any(s in name for s in substrings))
        if rules[group][1] == 0:
            parameter.requires_grad_(False)
        if parameter.requires_grad:
            groups[group].append(parameter)
    filled = [(name, parameters) for name, parameters in groups.items() if parameters]
    if not filled:
        raise InputError("nothing to train: every learning rate is 0 or every part is frozen")
    return [
        {"name": name, "params": parameters, "lr": rules[name][1], "base_lr": rules[name][1]}
        for name, parameters in filled
    ]


def build_optimizer(groups: list[dict], config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over `parameter_groups`."""
    return torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay)


def learning_rate_share(step: int, total: int, config: OptimConfig, steps_per_unit: float = 1.0) -> float:
    """What every group's rate is multiplied by at optimizer step `step` (from 0) of `total`.

    Linear warm-up from 1/warmup_steps, times the schedule. `steps_per_unit`: steps in one unit of `milestones`.
    """
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    if config.schedule == "multistep":
        passed = sum(step >= round(milestone * steps_per_unit) for milestone in config.milestones)
        return warm * config.gamma**passed
    if config.schedule == "cosine":
        done = max(0, step - config.warmup_steps) / max(1, total - config.warmup_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        return warm * (config.final_share + (1 - config.final_share) * cosine)
    return warm


def set_learning_rates(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Give every group its full rate times `share`."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * share


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float) -> torch.Tensor:
    """Scale the gradients to global norm <= `limit` (0 = leave them) and return the norm before, a 0-d tensor."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if limit > 0:
        share = (limit / (norm + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_(gradients, share)
    return norm
