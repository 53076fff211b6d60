"""Swin Transformer as a four-level backbone, on window attention that works over any number of grid axes.

Liu et al., arXiv 2103.14030, as in its detection release: the map is zero-padded to whole windows and the padded
tokens take part in attention; windows never shrink. `video_swin.py` runs the same stages over three axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.ops import StochasticDepth

Axes = tuple[int, ...]  # one integer per grid axis: (y, x) for images, (t, y, x) for video

# Added to the attention of tokens that the cyclic shift brought together from opposite borders.
SEPARATED = -100.0


@dataclass(frozen=True)
class SwinShape:
    """Size of a Swin or Video-Swin: width of the first stage, then blocks and heads per stage."""

    channels: int
    depths: tuple[int, int, int, int]
    heads: tuple[int, int, int, int]
    drop_path: float  # the published rate of the last block; earlier blocks rise linearly from 0

    @property
    def stage_channels(self) -> tuple[int, int, int, int]:
        return (self.channels, self.channels * 2, self.channels * 4, self.channels * 8)


SWIN_SHAPES = {
    "swin_t": SwinShape(96, (2, 2, 6, 2), (3, 6, 12, 24), 0.2),
    "swin_s": SwinShape(96, (2, 2, 18, 2), (3, 6, 12, 24), 0.2),
    "swin_b": SwinShape(128, (2, 2, 18, 2), (4, 8, 16, 32), 0.3),
    "swin_l": SwinShape(192, (2, 2, 18, 2), (6, 12, 24, 48), 0.3),
}


def relative_position_index(window: Axes) -> Tensor:
    """Row of the bias table for each pair of tokens of a window: int64 [n, n], n = product of `window`."""
    axes = torch.meshgrid(*(torch.arange(size) for size in window), indexing="ij")
    index = torch.zeros(prod(window), prod(window), dtype=torch.long)
    for axis, size in zip(axes, window, strict=True):
        place = axis.flatten()
        index = index * (2 * size - 1) + (place[:, None] - place[None, :] + size - 1)
    return index


def split_windows(x_BGC: Tensor, window: Axes) -> Tensor:
    """[B, *grid, C] -> [B, *(windows per axis), n, C]; every side of the grid is a multiple of the window's."""
    k, grid = len(window), x_BGC.shape[1:-1]
    sides = [side for size, w in zip(grid, window, strict=True) for side in (size // w, w)]
    x = x_BGC.reshape(x_BGC.shape[0], *sides, x_BGC.shape[-1])
    x = x.permute(0, *range(1, 2 * k, 2), *range(2, 2 * k + 1, 2), 2 * k + 1)
    return x.flatten(k + 1, 2 * k)


def join_windows(windows: Tensor, window: Axes) -> Tensor:
    """The inverse of `split_windows`."""
    k, counts = len(window), windows.shape[1:-2]
    x = windows.unflatten(-2, window)
    x = x.permute(0, *(axis for i in range(k) for axis in (1 + i, 1 + k + i)), 2 * k + 1)
    return x.reshape(windows.shape[0], *(n * w for n, w in zip(counts, window, strict=True)), windows.shape[-1])


@dataclass(frozen=True)
class WindowPlan:
    """How the blocks of a stage cut their grid: window and cyclic shift per axis, and what the shift separates.

    The roll brings tokens of opposite borders together in the last windows of each shifted axis and nowhere else,
    so `masks` holds one additive [n, n] per set of axes along which a window is the last one, keyed by that set
    as a flag per axis. These 2^k masks say what the usual [windows, n, n] says, which for video takes gigabytes.
    """

    window: Axes
    shift: Axes
    masks: dict[tuple[bool, ...], Tensor]


def plan_windows(window: Axes, shift: Axes, like: Tensor) -> WindowPlan:
    """The plan for that window and shift, its masks on the device and in the type of `like`."""
    masks: dict[tuple[bool, ...], Tensor] = {(): like.new_zeros(1, 1)}
    for size, step in zip(window, shift, strict=True):
        wrapped = torch.arange(size, device=like.device) >= size - step
        apart = (wrapped[:, None] != wrapped[None, :]).to(like.dtype) * SEPARATED
        masks = {
            (*last, border): (mask[:, None, :, None] + border * apart[None, :, None, :]).reshape(
                mask.shape[0] * size, mask.shape[0] * size
            )
            for last, mask in masks.items()
            for border in ((False, True) if step else (False,))
        }
    return WindowPlan(window, shift, {last: mask.clamp(min=SEPARATED) for last, mask in masks.items()})


class WindowAttention(nn.Module):
    """Multi-head self-attention inside each window, with a learned bias per head and relative position."""

    relative_position_index: Tensor

    def __init__(self, channels: int, heads: int, window: Axes) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.empty(prod(2 * w - 1 for w in window), heads))
        self.register_buffer("relative_position_index", relative_position_index(window))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x_BGC: Tensor, plan: WindowPlan) -> Tensor:
        """[B, *grid, C] -> the same shape; the grid is already padded to whole windows and rolled."""
        tokens = prod(plan.window)
        # A window smaller than the table's takes the corner of the index: exact when only the slowest axis is
        # smaller. For the others the published Video-Swin does the same, geometry aside, and so do its weights.
        bias_HLL = self.relative_position_bias_table[self.relative_position_index[:tokens, :tokens]].permute(2, 0, 1)
        windows = split_windows(self.qkv(x_BGC), plan.window)
        return self.proj(join_windows(self._attend(windows, bias_HLL, plan, ()), plan.window))

    def _attend(self, windows: Tensor, bias_HLL: Tensor, plan: WindowPlan, last: tuple[bool, ...]) -> Tensor:
        """Windows [B, *counts, n, 3C] -> [B, *counts, n, C]; splits off the last ones of each shifted axis."""
        axis = len(last)
        if axis == len(plan.window):
            return self._attend_alike(windows, bias_HLL + plan.masks[last])
        if plan.shift[axis] == 0:
            return self._attend(windows, bias_HLL, plan, (*last, False))
        inner, border = windows.split([windows.shape[1 + axis] - 1, 1], dim=1 + axis)
        attended = [self._attend(border, bias_HLL, plan, (*last, True))]
        if inner.shape[1 + axis]:
            attended.insert(0, self._attend(inner, bias_HLL, plan, (*last, False)))
        return torch.cat(attended, dim=1 + axis)

    def _attend_alike(self, windows: Tensor, mask_HLL: Tensor) -> Tensor:
        """Windows that share one additive mask [heads, n, n]: all of them in a single attention call."""
        qkv = windows.flatten(0, -3).unflatten(-1, (3, self.heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask_HLL[None].to(query.dtype))
        return out.transpose(1, 2).flatten(2).reshape(*windows.shape[:-1], -1)


class Mlp(nn.Module):
    """Linear, exact GELU, Linear."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class SwinBlock(nn.Module):
    """Pre-norm residual block: (shifted) window attention, then an MLP of ratio 4."""

    def __init__(self, channels: int, heads: int, window: Axes, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, heads, window)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels, 4 * channels)
        self.drop_path = StochasticDepth(drop_path, "row")

    def forward(self, x_BGC: Tensor, plan: WindowPlan) -> Tensor:
        x = x_BGC + self.drop_path(self._attention(self.norm1(x_BGC), plan))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def _attention(self, x: Tensor, plan: WindowPlan) -> Tensor:
        grid, dims = x.shape[1:-1], tuple(range(1, x.dim() - 1))
        short = [-size % w for size, w in zip(grid, plan.window, strict=True)]
        x = F.pad(x, [0, 0, *(side for extra in reversed(short) for side in (0, extra))])
        if any(plan.shift):
            x = self.attn(x.roll([-step for step in plan.shift], dims), plan).roll(plan.shift, dims)
        else:
            x = self.attn(x, plan)
        return x[(slice(None), *(slice(size) for size in grid))]


class PatchMerging(nn.Module):
    """Halves the last two grid axes and doubles the channels; an odd side is padded by one row or column."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)
        self.norm = nn.LayerNorm(4 * channels)

    def forward(self, x_BGC: Tensor) -> Tensor:
        height, width = x_BGC.shape[-3:-1]
        x = F.pad(x_BGC, (0, 0, 0, width % 2, 0, height % 2))
        corners = [x[..., row::2, column::2, :] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, dim=-1)))


class SwinStage(nn.Module):
    """The blocks of one resolution, every second one shifted by half a window. `downsample` is for the caller.

    With `clip`, along an axis no longer than the window the window takes the axis's length and is not shifted.
    """

    def __init__(self, channels: int, heads: int, window: Axes, drop_paths: Sequence[float], clip: bool) -> None:
        super().__init__()
        self.window, self.clip = window, clip
        self.checkpoint_activations = False
        self.blocks = nn.ModuleList(SwinBlock(channels, heads, window, rate) for rate in drop_paths)
        self.downsample: PatchMerging | None = None

    def window_and_shift(self, grid: Axes) -> tuple[Axes, Axes]:
        """Window and shift on a grid of that size."""
        fits = [self.clip and size <= w for size, w in zip(grid, self.window, strict=True)]
        window = tuple(size if fit else w for fit, size, w in zip(fits, grid, self.window, strict=True))
        return window, tuple(0 if fit else w // 2 for fit, w in zip(fits, self.window, strict=True))

    def forward(self, x_BGC: Tensor) -> Tensor:
        window, shift = self.window_and_shift(tuple(x_BGC.shape[1:-1]))
        plans = [plan_windows(window, (0,) * len(window), x_BGC), plan_windows(window, shift, x_BGC)]
        x = x_BGC
        for number, block in enumerate(self.blocks):
            if self.checkpoint_activations and torch.is_grad_enabled():
                x = checkpoint(block, x, plans[number % 2], use_reentrant=False)
            else:
                x = block(x, plans[number % 2])
        return x


def build_stages(shape: SwinShape, window: Axes, drop_path: float, clip: bool) -> nn.ModuleList:
    """The four stages, drop-path rates rising linearly over all blocks from 0 to `drop_path`."""
    blocks = sum(shape.depths)
    rates = [drop_path * number / max(blocks - 1, 1) for number in range(blocks)]
    stages = nn.ModuleList()
    for channels, heads, depth in zip(shape.stage_channels, shape.heads, shape.depths, strict=True):
        stages.append(SwinStage(channels, heads, window, rates[:depth], clip))
        rates = rates[depth:]
    return stages


def init_swin(module: nn.Module) -> None:
    """The published initialisation of linear layers; LayerNorm and the patch convolution keep PyTorch's."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def pad_to_patches(x: Tensor, patch: int) -> Tensor:
    """Zero-pad the last two axes at their ends to multiples of `patch`."""
    return F.pad(x, (0, -x.shape[-1] % patch, 0, -x.shape[-2] % patch))


class PatchEmbed(nn.Module):
    """Patches of 4 x 4 pixels to tokens: convolution, then LayerNorm over channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, channels, kernel_size=4, stride=4)
        self.norm = nn.LayerNorm(channels)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        return self.norm(self.proj(pad_to_patches(images_NCHW, 4)).permute(0, 2, 3, 1))


class Swin(nn.Module):
    """Swin over single frames: each stage's output, before merging, through a LayerNorm of its own."""

    def __init__(self, shape: SwinShape, drop_path: float | None = None) -> None:
        """`drop_path` None takes the published rate."""
        super().__init__()
        self.channels = shape.stage_channels
        self.patch_embed = PatchEmbed(shape.channels)
        rate = shape.drop_path if drop_path is None else drop_path
        self.layers = build_stages(shape, (7, 7), rate, clip=False)
        for stage, channels in zip(self.layers[:3], self.channels[:3], strict=True):
            stage.downsample = PatchMerging(channels)
        for level, channels in enumerate(self.channels):
            self.add_module(f"norm{level}", nn.LayerNorm(channels))
        self.apply(init_swin)

    def forward(self, frames_BTCHW: Tensor) -> tuple[Tensor, ...]:
        """C2..C5, each [B*T, C, h, w], strides 4, 8, 16, 32 (sides rounded up)."""
        x, levels = self.patch_embed(frames_BTCHW.flatten(0, 1)), []
        for level, stage in enumerate(self.layers):
            x = stage(x)
            levels.append(self.get_submodule(f"norm{level}")(x).permute(0, 3, 1, 2).contiguous())
            if isinstance(stage.downsample, PatchMerging):
                x = stage.downsample(x)
        return tuple(levels)
