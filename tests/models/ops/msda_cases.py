"""Random inputs of the operator, and its answer in float64."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from models.ops import deformable_attention
from models.ops.paths import grid_path

LEVELS = ((9, 7), (5, 4), (2, 3), (1, 1))
FEW = ((9, 7), (3, 4))


class Case(NamedTuple):
    value: Tensor
    loc: Tensor
    attn: Tensor
    shapes: tuple[tuple[int, int], ...]

    def run(self) -> Tensor:
        """[N, Q, H, D]."""
        out = deformable_attention(self.value, self.shapes, self.loc, self.attn)
        return out.unflatten(-1, (self.value.shape[2], -1))

    def leaves(self) -> Case:
        """Copies that gradients gather in."""
        tensors = (x.detach().clone().requires_grad_() for x in self[:3])
        return Case(*tensors, self.shapes)

    @property
    def flat(self) -> list[int]:
        return [side for shape in self.shapes for side in shape]


def draw(
    dtype: torch.dtype = torch.float32,
    *,
    N: int = 2,
    Q: int = 11,
    H: int = 2,
    D: int = 16,
    P: int = 2,
    shapes: tuple[tuple[int, int], ...] = FEW,
    seed: int = 0,
) -> Case:
    """Points up to two pixels off the map, at least 1/100 of a pixel off the lattice lines, where slopes jump."""
    generator = torch.Generator().manual_seed(seed)
    full = torch.promote_types(dtype, torch.float32)
    sides = torch.tensor([[w, h] for h, w in shapes], dtype=torch.float64)[:, None]

    def uniform(*size: int) -> Tensor:
        return torch.rand(*size, generator=generator, dtype=torch.float64)

    where = (N, Q, H, len(shapes), P)
    cell = (uniform(*where, 2) * (sides + 4)).floor() - 2
    loc = (cell + 0.01 + 0.98 * uniform(*where, 2) + 0.5) / sides
    value = torch.randn(N, sum(h * w for h, w in shapes), H, D, generator=generator, dtype=torch.float64)
    return Case(value.to(dtype), loc.to(full), uniform(*where).to(full), shapes)


def gradients(case: Case, grad_out: Tensor) -> tuple[Tensor, ...]:
    """Output and the gradients of value, loc and attn."""
    case = case.leaves()
    out = case.run()
    return (out.detach(), *torch.autograd.grad(out, case[:3], grad_out))


def reference(case: Case, grad_out: Tensor) -> tuple[Tensor, ...]:
    """`gradients` by grid_sample in float64, of the inputs as they are rounded."""
    value, loc, attn = (x.detach().double().requires_grad_() for x in case[:3])
    out = grid_path(value, case.flat, loc, attn)
    return (out.detach(), *torch.autograd.grad(out, (value, loc, attn), grad_out.double()))


def distance(x: Tensor, expected: Tensor) -> float:
    """Relative, in the Frobenius norm; absolute where nothing but zero is expected."""
    scale = expected.norm().item()
    return (x.double() - expected.double()).norm().item() / (scale or 1.0)
