"""util/optimization.py and util/ema.py: published groups, schedules, clipping, and the average of weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from util.ema import Ema
from util.errors import InputError
from util.optimization import OptimConfig, build_optimizer, clip_gradients, learning_rate_share, parameter_groups

NAMES = ["backbone.0.body.conv", "text_encoder.pooler", "transformer.reference_points.weight",
         "transformer.encoder.layers.0.self_attn.sampling_offsets.bias", "controller.bias"]  # fmt: skip


def named() -> list[tuple[str, nn.Parameter]]:
    return [(name, nn.Parameter(torch.ones(2))) for name in NAMES]


def test_published_groups() -> None:
    config = OptimConfig(lr=1e-4, lr_backbone=5e-5, lr_text_encoder=1e-5, lr_linear_proj_mult=0.5)
    parameters = named()
    groups = parameter_groups(parameters, config)
    rates = {id(p): group["base_lr"] for group in groups for p in group["params"]}
    assert [rates[id(p)] for _, p in parameters] == [5e-5, 1e-5, 5e-5, 5e-5, 1e-4]
    optimizer = build_optimizer(groups, config)
    assert all(group["weight_decay"] == 5e-4 for group in optimizer.param_groups)


def test_a_rate_of_zero_freezes_and_frozen_parameters_are_left_out() -> None:
    parameters = named()
    parameters[4][1].requires_grad_(False)
    groups = parameter_groups(parameters, OptimConfig(lr_backbone=0.0))
    assert [group["name"] for group in groups] == ["text_encoder", "linear_proj"]
    assert not parameters[0][1].requires_grad
    with pytest.raises(InputError, match="nothing to train"):
        parameter_groups(named(), OptimConfig(lr=0.0, lr_backbone=0.0, lr_text_encoder=0.0))


def test_multistep_drops_at_its_milestones_in_epochs() -> None:
    config = OptimConfig(milestones=(3, 5))
    shares = [learning_rate_share(step, 60, config, steps_per_unit=10) for step in (0, 29, 30, 49, 50, 59)]
    assert shares == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_warm_up_is_linear_and_cosine_ends_at_its_share() -> None:
    config = OptimConfig(schedule="cosine", warmup_steps=4, final_share=0.1)
    shares = [learning_rate_share(step, 104, config) for step in range(105)]
    assert shares[:4] == [0.25, 0.5, 0.75, 1.0]
    assert shares[54] == pytest.approx(0.55) and shares[104] == pytest.approx(0.1)
    assert shares[4:] == sorted(shares[4:], reverse=True)


def test_clipping_bounds_the_global_norm_and_leaves_small_gradients() -> None:
    parameters = [p for _, p in named()]
    for parameter in parameters:
        parameter.grad = torch.full((2,), 3.0)
    before = clip_gradients(parameters, 0.1)
    assert before.item() == pytest.approx(3 * 10**0.5)
    assert sum(p.grad.square().sum() for p in parameters).sqrt().item() == pytest.approx(0.1, rel=1e-5)
    assert clip_gradients(parameters, 5.0).item() == pytest.approx(0.1, rel=1e-5)
    kept = parameters[0].grad.clone()
    clip_gradients(parameters, 0.0)
    assert torch.equal(parameters[0].grad, kept)


def test_ema_follows_trained_weights_and_swaps_back_exactly() -> None:
    module = nn.Linear(2, 2)
    module.bias.requires_grad_(False)
    ema = Ema(module, 0.9)
    assert list(ema.average) == ["weight"]
    start = module.weight.detach().clone()
    with torch.no_grad():
        module.weight.add_(1.0)
    live = module.weight.detach().clone()
    ema.update(step=1)
    past = 2 / 11
    torch.testing.assert_close(ema.average["weight"], past * start + (1 - past) * live)
    with ema.applied():
        torch.testing.assert_close(module.weight.detach(), past * start + (1 - past) * live)
    assert torch.equal(module.weight, live)
    for step in range(2, 2000):
        ema.update(step)
    torch.testing.assert_close(ema.average["weight"], live)
    with pytest.raises(InputError, match="decay"):
        Ema(module, 1.0)
    with pytest.raises(InputError, match="bias"):
        ema.load({"weight": live, "bias": live})
