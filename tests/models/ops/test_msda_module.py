"""MSDeformAttn: Deformable-DETR's parameter names and start, its arithmetic, and what it does in low precision."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from models.ops import MSDeformAttn
from models.self_test import network_error
from tests.conftest import ROOT

SHAPES = ((6, 8), (3, 4))
DIM, HEADS, POINTS = 32, 4, 3
TOKENS = sum(h * w for h, w in SHAPES)


def random_module() -> MSDeformAttn:
    module = MSDeformAttn(DIM, HEADS, len(SHAPES), POINTS)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.3)
    return module


def inputs(coordinates: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(2, 5, DIM), torch.rand(2, 5, len(SHAPES), coordinates), torch.randn(2, TOKENS, DIM)


def test_names_and_shapes_of_the_original() -> None:
    size = HEADS * len(SHAPES) * POINTS
    expected = {
        "sampling_offsets": (2 * size, DIM),
        "attention_weights": (size, DIM),
        "value_proj": (DIM, DIM),
        "output_proj": (DIM, DIM),
    }
    state = {f"{name}.{part}": shape[: 2 if part == "weight" else 1] for name, shape in expected.items()
             for part in ("weight", "bias")}  # fmt: skip
    assert {name: tuple(x.shape) for name, x in random_module().state_dict().items()} == state
    random_module().load_state_dict({name: torch.zeros(shape) for name, shape in state.items()}, strict=True)


def test_start() -> None:
    """Head h looks along angle 2 pi h / H, the larger side of its direction one pixel long, point p at p + 1 of it."""
    module = MSDeformAttn(DIM, HEADS, len(SHAPES), POINTS)
    bias = module.sampling_offsets.bias.detach().view(HEADS, len(SHAPES), POINTS, 2)
    for h in range(HEADS):
        x, y = math.cos(2 * math.pi * h / HEADS), math.sin(2 * math.pi * h / HEADS)
        for p in range(POINTS):
            expected = torch.tensor([x, y]) * (p + 1) / max(abs(x), abs(y))
            torch.testing.assert_close(bias[h, :, p], expected.expand(len(SHAPES), 2), atol=1e-5, rtol=1e-5)
    for zero in (module.sampling_offsets.weight, module.attention_weights.weight, module.attention_weights.bias,
                 module.value_proj.bias, module.output_proj.bias):  # fmt: skip
        assert not zero.any()
    limit = math.sqrt(6 / (2 * DIM))
    assert 0.9 * limit < module.value_proj.weight.abs().max() <= limit


def test_padding_counts_as_zero(backend: str) -> None:
    module = random_module()
    query, references, source = inputs(2)
    padding = torch.rand(2, TOKENS) < 0.4
    out = module(query, references, source, SHAPES, padding)
    other = torch.where(padding[..., None], 100 * torch.randn_like(source), source)
    torch.testing.assert_close(module(query, references, other, SHAPES, padding), out)
    assert not torch.allclose(module(query, references, source, SHAPES, None), out, atol=1e-3)


@pytest.mark.parametrize("coordinates", [2, 4])
@pytest.mark.parametrize("padded", [False, True])
def test_equals_another_implementation(backend: str, coordinates: int, padded: bool) -> None:
    """The one in Hugging Face's Deformable DETR, in plain PyTorch on the CPU, with the same weights."""
    from transformers.models.deformable_detr import modeling_deformable_detr as theirs

    config = theirs.DeformableDetrConfig(
        d_model=DIM, num_feature_levels=len(SHAPES), disable_custom_kernels=True, use_pretrained_backbone=False
    )
    other = theirs.DeformableDetrMultiscaleDeformableAttention(config, num_heads=HEADS, n_points=POINTS)
    module = random_module()
    other.load_state_dict(module.state_dict())
    query, references, source = inputs(coordinates)
    padding = torch.rand(2, TOKENS) < 0.3 if padded else None
    sizes = torch.tensor(SHAPES)
    expected, _ = other(
        query,
        attention_mask=~padding if padding is not None else None,
        encoder_hidden_states=source,
        reference_points=references,
        spatial_shapes=sizes,
        spatial_shapes_list=list(SHAPES),
        level_start_index=torch.tensor([0, 48]),
    )
    torch.testing.assert_close(module(query, references, source, SHAPES, padding), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("coordinates", [2, 4])
def test_low_precision_keeps_the_places(backend: str, coordinates: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under autocast the locations are those of float32 to the bit; a module in bfloat16 runs too."""
    import models.ops.module as source_of

    seen = []
    original = source_of.deformable_attention

    def watch(value: Tensor, shapes: object, locations: Tensor, weights: Tensor) -> Tensor:
        seen.append(locations)
        return original(value, shapes, locations, weights)  # type: ignore[arg-type]

    monkeypatch.setattr(source_of, "deformable_attention", watch)
    module = random_module()
    query, references, source = inputs(coordinates)
    expected = module(query, references, source, SHAPES, None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = module(query, references, source, SHAPES, None)
    assert out.dtype == torch.bfloat16 and torch.equal(seen[0], seen[1])
    torch.testing.assert_close(out.float(), expected, atol=0.1, rtol=0.05)
    low = module.bfloat16()
    assert low(query.bfloat16(), references, source.bfloat16(), SHAPES, None).dtype == torch.bfloat16
    assert seen[2].dtype == torch.float32


def test_gradients_reach_every_parameter(backend: str) -> None:
    module: nn.Module = random_module()
    query, references, source = inputs(4)
    module(query, references, source, SHAPES, None).square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


NETWORK_ERROR = "from models.self_test import network_error; print(network_error('cpu'))"


def test_the_whole_network(backend: str) -> None:
    """Every output of a small network with all its parts, against stored sums."""
    assert network_error("cpu") < 2e-5


@pytest.mark.slow
def test_the_whole_network_on_triton() -> None:
    """As above, in Triton's interpreter, which has to be on before Triton is imported."""
    pytest.importorskip("triton", reason="triton is not installed")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "REFERTRACK_OPS": "triton"}
    command = [sys.executable, "-c", NETWORK_ERROR]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 2e-5
