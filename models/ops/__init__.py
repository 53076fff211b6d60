"""Multi-scale deformable attention: one function, one module, and a report of which kernel runs."""

from models.ops.deformable import deformable_attention, kernel_report
from models.ops.module import MSDeformAttn

__all__ = ["MSDeformAttn", "deformable_attention", "kernel_report"]
