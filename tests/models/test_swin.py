"""Swin and Video-Swin against torchvision's, and against the published rules where those differ."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_backbones import SMALL, clip, outline, randomise
from torch import nn
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.video.swin_transformer import SwinTransformer3d
from torchvision.ops import StochasticDepth

from models.swin import (
    Swin,
    SwinBlock,
    WindowAttention,
    join_windows,
    plan_windows,
    relative_position_index,
    split_windows,
)
from models.video_swin import VideoSwin


def test_swin_equals_torchvision_where_no_window_covers_a_whole_side():
    """Torchvision stops shifting there. Sides are odd at every merge, so merging pads too."""
    swin = randomise(Swin(SMALL), 5)
    reference = SwinTransformer([4, 4], 24, list(SMALL.depths), list(SMALL.heads), [7, 7]).double().eval()
    load_into_torchvision(reference, swin.state_dict(), video=False)
    frames = clip(1, 1, 3, 232, 260)
    levels, x = swin(frames), frames[0]
    for number, layer in enumerate(reference.features):
        x = layer(x)
        if number % 2:
            expected = getattr(swin, f"norm{number // 2}")(x).permute(0, 3, 1, 2)
            torch.testing.assert_close(levels[number // 2], expected, atol=1e-8, rtol=1e-8)
    assert [tuple(level.shape[-2:]) for level in levels] == [(58, 65), (29, 33), (15, 17), (8, 9)]
    assert_same_gradients(swin, levels[3], reference, expected, video=False)


# two temporal windows; one clipped temporal window with a spatial shift; one frame; sides below 7 (the index quirk)
@pytest.mark.parametrize("shape", [(10, 40, 60), (5, 88, 72), (1, 64, 96), (9, 20, 24)])
def test_video_swin_equals_torchvision(shape):
    video_swin = randomise(VideoSwin(SMALL), 6)
    reference = SwinTransformer3d([1, 4, 4], 24, list(SMALL.depths), list(SMALL.heads), [8, 7, 7]).double().eval()
    load_into_torchvision(reference, video_swin.state_dict(), video=True)
    frames = clip(1, shape[0], 3, *shape[1:])
    levels, x = video_swin(frames), reference.patch_embed(frames.transpose(1, 2))
    for number, layer in enumerate(reference.features):
        x = layer(x)
        if number % 2 == 0:
            expected = x[0].permute(0, 3, 1, 2)
            torch.testing.assert_close(levels[number // 2], expected, atol=1e-8, rtol=1e-8)
    assert_same_gradients(video_swin, levels[3], reference, expected, video=True)


def assert_same_gradients(
    ours: nn.Module, our_level: torch.Tensor, reference: nn.Module, level: torch.Tensor, *, video: bool
) -> None:
    """Of the last level's energy, for every weight before its output norm."""
    (our_level**2).sum().backward()
    (level**2).sum().backward()
    gradients = {key: p.grad for key, p in ours.named_parameters() if p.grad is not None}
    renamed = torchvision_names(gradients, video=video)
    assert {key.split(".")[-1] for key in renamed} == {"weight", "bias", "relative_position_bias_table"}
    for key, gradient in renamed.items():
        torch.testing.assert_close(gradient, reference.get_parameter(key).grad, atol=1e-8, rtol=1e-7)


def load_into_torchvision(reference: nn.Module, state: dict[str, torch.Tensor], *, video: bool) -> None:
    """Everything but the classifier, and the position indices, which torchvision works out itself."""
    missing, unexpected = reference.load_state_dict(torchvision_names(state, video=video), strict=False)
    assert not unexpected
    assert {key.split(".")[-1] if "index" in key else key.split(".")[0] for key in missing} == {
        "norm",
        "head",
        "relative_position_index",
    }


def torchvision_names(state: dict[str, torch.Tensor], *, video: bool) -> dict[str, torch.Tensor]:
    """Our Swin state under torchvision's names, which counts stages and merges in one list."""
    renamed = {}
    offset = 0 if video else 1
    embed = ("patch_embed.proj", "patch_embed.norm") if video else ("features.0.0", "features.0.2")
    for key, value in state.items():
        parts = key.split(".")
        if parts[0] == "patch_embed":
            name = f"{embed[parts[1] == 'norm']}.{parts[2]}"
        elif parts[0] == "downsamples":
            name = f"features.{2 * int(parts[1]) + 1}.{'.'.join(parts[2:])}"
        elif parts[0] == "layers" and parts[2] == "downsample":
            name = f"features.{2 * int(parts[1]) + 2}.{'.'.join(parts[3:])}"
        elif parts[0] == "layers":
            rest = ".".join(parts[4:]).replace("mlp.fc1", "mlp.0").replace("mlp.fc2", "mlp.3")
            name = f"features.{2 * int(parts[1]) + offset}.{parts[3]}.{rest}"
            if rest.endswith("relative_position_index"):
                continue
        else:
            continue
        renamed[name] = value
    return renamed


def test_a_shifted_window_that_covers_the_map_follows_the_published_rules():
    """Per pair of tokens: padded tokens attend, and -100 lies between tokens of different sides of the roll."""
    attention = randomise(WindowAttention(8, 2, (7, 7)), 7)
    x = clip(1, 3, 4, 8)
    padded = F.pad(x, (0, 0, 0, 3, 0, 4)).roll((-3, -3), (1, 2))
    block = SwinBlock(8, 2, (7, 7), 0.0).double()
    block.attn = attention
    with torch.no_grad():
        ours = block._attention(x, plan_windows((7, 7), (3, 3), x))
        tokens = padded.reshape(49, 8)
        query, key, value = attention.qkv(tokens).reshape(49, 3, 2, 4).unbind(1)
        side = [(n // 7 >= 4, n % 7 >= 4) for n in range(49)]
        out = torch.zeros(49, 2, 4, dtype=torch.float64)
        for i in range(49):
            for head in range(2):
                scores = torch.empty(49, dtype=torch.float64)
                for j in range(49):
                    row = (i // 7 - j // 7 + 6) * 13 + (i % 7 - j % 7 + 6)
                    scores[j] = query[i, head] @ key[j, head] / 2 + attention.relative_position_bias_table[row, head]
                    scores[j] -= 100 * (side[i] != side[j])
                out[i, head] = scores.softmax(0) @ value[:, head]
        expected = attention.proj(out.flatten(1)).reshape(1, 7, 7, 8).roll((3, 3), (1, 2))[:, :3, :4]
    torch.testing.assert_close(ours, expected, atol=1e-10, rtol=1e-10)


def test_windows_split_and_join_back():
    x = clip(2, 4, 14, 21, 5)
    windows = split_windows(x, (2, 7, 7))
    assert windows.shape == (2, 2, 2, 3, 98, 5)
    torch.testing.assert_close(windows[1, 1, 0, 2], x[1, 2:4, :7, 14:].reshape(98, 5), atol=0, rtol=0)
    torch.testing.assert_close(join_windows(windows, (2, 7, 7)), x, atol=0, rtol=0)


def test_a_shorter_temporal_window_keeps_the_geometric_index():
    full, short = relative_position_index((8, 7, 7)), relative_position_index((3, 7, 7))
    middle = full[:147, :147] - full[0, 0]
    torch.testing.assert_close(middle, short - short[0, 0], atol=0, rtol=0)
    clipped, narrow = full[:24, :24], relative_position_index((8, 1, 3))
    assert not torch.equal(clipped - clipped[0, 0], narrow - narrow[0, 0])


def test_frames_are_independent_except_in_video_swin():
    frames = clip(1, 3, 3, 40, 40, dtype=torch.float32)
    changed = frames.clone()
    changed[:, 2] += 1
    for body, mixed in ((Swin(SMALL), False), (VideoSwin(SMALL), True)):
        body.eval()
        with torch.no_grad():
            same = torch.allclose(body(frames)[3][0], body(changed)[3][0], atol=1e-6)
        assert same != mixed


def test_drop_path_rates_rise_linearly_to_the_published_one():
    rates = [m.p for m in outline("swin_b").modules() if isinstance(m, StochasticDepth)]
    np.testing.assert_allclose(rates, np.linspace(0, 0.3, 24), atol=1e-12)
    assert {m.p for m in outline("swin_b", drop_path=0.0).modules() if isinstance(m, StochasticDepth)} == {0.0}
