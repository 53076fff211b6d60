"""The sizes at which the deformable attention operator is measured, and inputs of those sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

# feature maps of strides 8, 16, 32, 64
SIZES = {
    "360p": ((45, 80), (23, 40), (12, 20), (6, 10)),
    "480p": ((60, 107), (30, 54), (15, 27), (8, 14)),
    "tiny": ((6, 10), (3, 5), (2, 3), (1, 2)),
}
JITTER = 2.0  # pixels, standard deviation of the sampling offsets

Spread = Literal["encoder", "uniform"]


@dataclass(frozen=True)
class Case:
    """`frames` maps of `shapes`; queries None = one a token, as in the encoder."""

    name: str
    frames: int
    shapes: tuple[tuple[int, int], ...]
    queries: int | None = None
    heads: int = 8
    dim: int = 32
    points: int = 4

    @property
    def tokens(self) -> int:
        return sum(h * w for h, w in self.shapes)

    @property
    def rows(self) -> int:
        """Outputs of one head's width: frames * queries * heads."""
        return self.frames * (self.queries or self.tokens) * self.heads

    def traffic(self, dtype: torch.dtype) -> dict[str, float]:
        """Bytes that each direction must at least move: inputs read once, outputs written once."""
        size, samples = dtype.itemsize, self.rows * len(self.shapes) * self.points
        value, out = self.frames * self.tokens * self.heads * self.dim * size, self.rows * self.dim * size
        read = value + out + samples * 12
        sums = 0 if dtype == torch.float32 else 2 * value // size * 4  # float32 sums, written and read back
        return {"forward": read, "backward": read + value + sums + samples * 12}


CASES = (
    Case("enc-1f", 1, SIZES["360p"]),
    Case("enc-5f", 5, SIZES["360p"]),
    Case("enc-36f", 36, SIZES["360p"]),
    Case("enc-480p", 5, SIZES["480p"]),
    Case("dec-5q", 5, SIZES["360p"], 5),
    Case("dec-20q", 5, SIZES["360p"], 20),
    Case("dec-300q", 5, SIZES["360p"], 300),
)
REFERENCE = CASES[1]
TINY = Case("tiny", 2, SIZES["tiny"])


class Inputs(NamedTuple):
    value: Tensor
    shapes: list[int]
    loc: Tensor
    attn: Tensor
    grad_out: Tensor


def draw(case: Case, dtype: torch.dtype, device: torch.device, spread: Spread = "encoder", seed: int = 0) -> Inputs:
    """Random inputs. "encoder": around each query's own pixel (a decoder's: around a random point); else anywhere."""
    generator = torch.Generator(device).manual_seed(seed)
    levels, queries = len(case.shapes), case.queries or case.tokens
    where = (case.frames, queries, case.heads, levels, case.points)
    if spread == "uniform":
        loc = torch.rand(*where, 2, generator=generator, device=device)
    else:
        sides = torch.tensor([[w, h] for h, w in case.shapes], dtype=torch.float32, device=device)
        offsets = JITTER * torch.randn(*where, 2, generator=generator, device=device) / sides[:, None]
        loc = _references(case, generator, device)[None, :, None, None, None] + offsets
    value = torch.randn(case.frames, case.tokens, case.heads, case.dim, generator=generator, device=device)
    attn = torch.rand(*where, generator=generator, device=device).flatten(3).softmax(-1).view(where)
    grad_out = torch.randn(case.frames, queries, case.heads, case.dim, generator=generator, device=device)
    flat = [side for shape in case.shapes for side in shape]
    return Inputs(value.to(dtype), flat, loc, attn, grad_out.to(dtype))


def _references(case: Case, generator: torch.Generator, device: torch.device) -> Tensor:
    """[queries, 2] as (x, y) in 0..1."""
    if case.queries is not None:
        return torch.rand(case.queries, 2, generator=generator, device=device)
    grids = []
    for h, w in case.shapes:
        y, x = torch.meshgrid((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w, indexing="ij")
        grids.append(torch.stack((x, y), -1).view(-1, 2))
    return torch.cat(grids).to(device)
