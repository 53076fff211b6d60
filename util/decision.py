"""The one decision policy: scores of candidates (queries, tracks) become a choice. Nothing else decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from util.types import Selection


@dataclass(frozen=True)
class Decision:
    """`threshold`: candidates scoring above it are taken, all of them when `several`, else only the best.

    `fallback`: what happens when none does: the best one all the same ("best", the published behaviour),
    or no answer ("empty").
    """

    threshold: float = 0.5
    fallback: Literal["best", "empty"] = "best"
    several: bool = False


def decide(scores_EN: Tensor, decision: Decision) -> Selection:
    """Choose among N candidates for each of E expressions; scores in 0..1. Leading dimensions may be any."""
    best = torch.zeros_like(scores_EN, dtype=torch.bool)
    best.scatter_(-1, scores_EN.argmax(-1, keepdim=True), True)
    above = scores_EN > decision.threshold
    chosen = above if decision.several else above & best
    if decision.fallback == "best":
        chosen = torch.where(chosen.any(-1, keepdim=True), chosen, best)
    return Selection(chosen, scores_EN)
