"""Each part of the network against the reference's stored module outputs, and small goldens that need no files."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from oracle import normal_weight, randn
from torch import nn

from models.fusion import VisionLanguageFusion
from models.mask_head import dynamic_masks, parameter_count
from models.ops import MSDeformAttn, deformable_attention
from models.pixel_decoder import PixelDecoder
from models.position_encoding import sine_1d, sine_2d


def load(folder, name):
    return np.load(folder / "referformer" / f"{name}.npz")


def tensor(z, name):
    return torch.from_numpy(z[name])


def named(module: nn.Module, prefix: str) -> nn.Module:
    """The module with the oracle's weights of that prefix."""
    module.load_state_dict({k: normal_weight(prefix + k, tuple(v.shape)) for k, v in module.state_dict().items()})
    return module.eval()


def close(x: torch.Tensor, expected, atol: float) -> None:
    np.testing.assert_allclose(x.detach().numpy(), expected, atol=atol, rtol=1e-4)


@pytest.mark.usefixtures("backend")
def test_deformable_attention_core_and_gradients(oracles):
    z = load(oracles, "E1_msda_core")
    shapes = tuple(tuple(int(s) for s in row) for row in z["shapes"])
    value, loc, weights = (tensor(z, k).requires_grad_() for k in ("value", "loc", "weights"))
    out = deformable_attention(value, shapes, loc, weights)
    close(out, z["out"], 1e-5)
    out.backward(tensor(z, "grad_out"))
    close(value.grad, z["grad_value"], 1e-5)
    close(weights.grad, z["grad_weights"], 1e-5)
    grad, expected = loc.grad, tensor(z, "grad_loc")
    grad[0, 0], expected[0, 0] = 0, 0  # stored on kinks, where the derivative is one-sided
    close(grad, expected, 1e-5)


@pytest.mark.usefixtures("backend")
def test_deformable_attention_module(oracles):
    z = load(oracles, "E6_msda_module")
    module = named(MSDeformAttn(256, 8, 4, 4), "transformer.encoder.layers.0.self_attn.")
    shapes = tuple(tuple(int(s) for s in row) for row in z["shapes"])
    query, source, padding = randn(2041, 2, 11, 256), randn(2042, 2, 65, 256), tensor(z, "padding_mask")
    close(module(query, tensor(z, "ref2"), source, shapes, None), z["ref2.out"], 2e-5)
    close(module(query, tensor(z, "ref2"), source, shapes, padding), z["ref2_pad.out"], 2e-5)
    close(module(query, tensor(z, "ref4"), source, shapes, padding), z["ref4_pad.out"], 2e-5)


def test_sine_codes(oracles):
    z = load(oracles, "E2_posenc")
    mask = tensor(z, "mask2d").bool()
    ours, stored = sine_2d(mask, 256), tensor(z, "pos2d")
    columns = (~mask).any(1)[:, None, None, :].expand(-1, 128, 7, -1)
    rows = (~mask).any(2)[:, None, :, None].expand(-1, 128, -1, 9)
    valid = torch.cat((columns, rows), 1)
    close(ours[valid], stored[valid], 1e-5)
    close(sine_1d(tensor(z, "mask1d").bool(), 256).transpose(1, 2), z["pos1d"], 1e-5)


def test_fusion(oracles):
    z = load(oracles, "E3_fusion")
    module = named(VisionLanguageFusion(256, 8), "fusion_module.")
    pixels, words = randn(2011, 24, 2, 256).transpose(0, 1), randn(2012, 2, 7, 256)[:, None]
    padding = tensor(z, "word_mask").bool()
    positions = sine_1d(padding, 256)[:, None]
    out = module(pixels, words, positions, padding[:, None])
    close(out[:, 0].transpose(0, 1), z["out"], 5e-5)


@pytest.mark.parametrize(
    ("name", "batch", "grids", "seed"),
    [
        ("E4_fpn_pad", 2, ((16, 24), (8, 12), (4, 6), (2, 3)), 2100),
        ("E4_fpn_odd", 1, ((23, 31), (12, 16), (6, 8), (3, 4)), 2200),
    ],
)
def test_pixel_decoder(oracles, name, batch, grids, seed):
    z = load(oracles, name)
    module = named(PixelDecoder(256, 8, 2048, 256, 0.1), "pixel_decoder.")
    frames = 2
    c2 = randn(seed, batch * frames, 256, *grids[0])
    memory = tuple(randn(seed + 10 + i, batch * frames, 256, *grids[i]) for i in (1, 2, 3))
    words = randn(seed + 20, batch, 7, 256)[:, None]
    word_padding = tensor(z, "word_mask").bool()[:, None]
    padding = tuple(tensor(z, f"mask{i}").bool()[::frames] for i in range(4))
    positions = tuple(sine_2d(mask, 256) for mask in padding)
    word_positions = sine_1d(word_padding[:, 0], 256)[:, None]
    features = module(c2, memory, positions, padding, (words, word_positions, word_padding), batch)
    close(features[:, :8], z["mask_features.first8"], 5e-5)
    probe = z["mask_features.probe"]
    index = (torch.arange(len(probe)) * (features.numel() - 1)) // (len(probe) - 1)
    close(features.reshape(-1)[index], probe, 5e-5)


@pytest.mark.parametrize("rel_coord", [True, False])
def test_dynamic_head(oracles, rel_coord):
    z = load(oracles, "E5_dynamic_head")
    features = randn(2031, 2, 2, 256, 10, 14).flatten(0, 1)
    parameters = tensor(z, "params_rel" if rel_coord else "params_norel").view(4, 3, -1)
    centres = tensor(z, "ref_points").view(4, 3, 2)
    sizes = torch.tensor([[40, 56], [36, 50]]).repeat_interleave(2, 0)
    out = dynamic_masks(features, parameters, centres, sizes, channels=8, rel_coord=rel_coord)
    close(out.view(2, 6, 10, 14), z["out_rel" if rel_coord else "out_norel"], 2e-5)


def test_dynamic_parameter_counts():
    assert parameter_count(256, 8, True) == 2153
    assert parameter_count(256, 8, False) == 2137


def test_sine_goldens():
    """Specification 13.5."""
    padding = torch.zeros(1, 3, 4, dtype=torch.bool)
    padding[:, -1], padding[:, :, -1] = True, True
    code = sine_2d(padding, 256)[0]
    close(code[:4, 1, 2], [-1.0, -0.000002, -0.807066, -0.590461], 2e-6)
    close(code[128:131, 1, 2], [-0.866026, 0.499999, -0.984162], 2e-6)
    close(code[[0, 1, 128, 129], 2, 3], [-0.096261, 0.995356, -0.096261, 0.995356], 2e-6)
    words = sine_1d(torch.tensor([[False, False, False, True, True]]), 256)[0]
    close(words[1, :4], [-0.866025, -0.500001, -0.686291, -0.727327], 2e-6)
    close(words[1, 254:], [0.000450, 1.0], 2e-6)
    close(words[4, :2], [-0.000002, 1.0], 2e-6)


def test_sampling_offsets_look_each_their_own_way():
    bias = MSDeformAttn(256, 8, 4, 4).sampling_offsets.bias.detach().view(8, 4, 4, 2)
    close(bias[0, 0, 0], [1, 0], 1e-6)
    close(bias[1, 2, 3], [4, 4], 1e-6)


def naive(value, shapes, loc, weights):
    """The definition, one point at a time."""
    N, _, heads, dim = value.shape
    out = value.new_zeros(N, loc.shape[1], heads, dim)
    starts = np.cumsum([0] + [h * w for h, w in shapes])
    for n, q, head, level, point in np.ndindex(*loc.shape[:-1]):
        h, w = shapes[level]
        x, y = (loc[n, q, head, level, point] * torch.tensor([w, h]) - 0.5).tolist()
        for row, column in ((r, c) for r in (0, 1) for c in (0, 1)):
            i, j = math.floor(y) + row, math.floor(x) + column
            share = (1 - abs(y - i)) * (1 - abs(x - j))
            if 0 <= i < h and 0 <= j < w:
                token = value[n, starts[level] + i * w + j, head]
                out[n, q, head] += weights[n, q, head, level, point] * share * token
    return out.flatten(2)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("rows", [1, 3])
def test_deformable_attention_is_its_definition(rows):
    generator = torch.Generator().manual_seed(1)
    shapes = ((4, 5), (2, 3))
    value = torch.rand(rows, 26, 2, 3, generator=generator, dtype=torch.float64)
    loc = torch.rand(rows, 4, 2, 2, 2, 2, generator=generator, dtype=torch.float64) * 1.6 - 0.3
    weights = torch.rand(rows, 4, 2, 2, 2, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(deformable_attention(value, shapes, loc, weights), naive(value, shapes, loc, weights))


@pytest.mark.usefixtures("backend")
def test_many_rows_and_half_precision_values():
    """65 rows break the original CUDA op; half-precision values accumulate in float32 and come back as they were."""
    value = torch.rand(65, 26, 2, 3)
    loc, weights = torch.rand(65, 4, 2, 2, 2, 2), torch.rand(65, 4, 2, 2, 2)
    full = deformable_attention(value, ((4, 5), (2, 3)), loc, weights)
    torch.testing.assert_close(full[64:], deformable_attention(value[64:], ((4, 5), (2, 3)), loc[64:], weights[64:]))
    half = deformable_attention(value.bfloat16(), ((4, 5), (2, 3)), loc, weights)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), full, atol=5e-2, rtol=2e-2)


def test_levels_that_do_not_hold_the_tokens_are_refused():
    with pytest.raises(ValueError, match="26 tokens but value has 24"):
        deformable_attention(
            torch.rand(1, 24, 1, 4), ((4, 5), (2, 3)), torch.rand(1, 1, 1, 2, 1, 2), torch.ones(1, 1, 1, 2, 1)
        )
