"""Video Swin Transformer as a four-level backbone: the stages of `swin.py` over time, height and width.

Liu et al., arXiv 2106.13230. Frames are not merged over time: T frames in, T maps per level out. Windows shrink
to short axes; where height or width shrinks (a stage with a side below 7) the published position index is not
the geometric one, and is kept, because the weights know no other.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.swin import PatchMerging, SwinShape, build_stages, init_swin, pad_to_patches

VIDEO_SWIN_SHAPES = {
    "video_swin_t": SwinShape(96, (2, 2, 6, 2), (3, 6, 12, 24), 0.2),
    "video_swin_s": SwinShape(96, (2, 2, 18, 2), (3, 6, 12, 24), 0.2),
    "video_swin_b": SwinShape(128, (2, 2, 18, 2), (4, 8, 16, 32), 0.2),
}


class PatchEmbed3d(nn.Module):
    """Patches of 1 x 4 x 4 (frame, row, column) to tokens: convolution, then LayerNorm over channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(3, channels, kernel_size=(1, 4, 4), stride=(1, 4, 4))
        self.norm = nn.LayerNorm(channels)

    def forward(self, frames_BCTHW: Tensor) -> Tensor:
        return self.norm(self.proj(pad_to_patches(frames_BCTHW, 4)).permute(0, 2, 3, 4, 1))


class VideoSwin(nn.Module):
    """Video-Swin over whole clips: each stage's output, before merging, as it is."""

    def __init__(self, shape: SwinShape, drop_path: float | None = None) -> None:
        """`drop_path` None takes the published rate."""
        super().__init__()
        self.channels = shape.stage_channels
        self.patch_embed = PatchEmbed3d(shape.channels)
        rate = shape.drop_path if drop_path is None else drop_path
        self.layers = build_stages(shape, (8, 7, 7), rate, clip=True)
        self.downsamples = nn.ModuleList(PatchMerging(channels) for channels in self.channels[:3])
        self.apply(init_swin)

    def forward(self, frames_BTCHW: Tensor) -> tuple[Tensor, ...]:
        """C2..C5, each [B*T, C, h, w], strides 4, 8, 16, 32 (sides rounded up)."""
        x, levels = self.patch_embed(frames_BTCHW.transpose(1, 2)), []
        for level, stage in enumerate(self.layers):
            x = stage(x)
            levels.append(x.flatten(0, 1).permute(0, 3, 1, 2).contiguous())
            if level < len(self.downsamples):
                x = self.downsamples[level](x)
        return tuple(levels)
