"""Multi-scale deformable attention: one function, one module, several kernels behind them, and which of them runs."""

from models.ops.backends import KernelStatus, require, status, use_backend
from models.ops.module import MSDeformAttn
from models.ops.msda import deformable_attention, export_path, ms_deform_attn

__all__ = [
    "KernelStatus",
    "MSDeformAttn",
    "deformable_attention",
    "export_path",
    "ms_deform_attn",
    "require",
    "status",
    "use_backend",
]
