"""Random choices of a synthetic world: uniform draws of a seeded generator and nothing else, in a fixed order.

Other distributions of numpy may change between its versions and machines; uniform numbers do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


class Draw:
    """Random choices from one stream of uniform numbers."""

    def __init__(self, *seed: int) -> None:
        self._uniform = np.random.default_rng(seed).random

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self._uniform()

    def chance(self, probability: float) -> bool:
        return bool(self._uniform() < probability)

    def sign(self) -> int:
        return 1 if self._uniform() < 0.5 else -1

    def pick(self, items: Sequence[Item], weights: Sequence[float] | None = None) -> Item:
        if weights is None:
            return items[int(self._uniform() * len(items))]
        mark = self._uniform() * sum(weights)
        for item, weight in zip(items, weights, strict=True):
            mark -= weight
            if mark < 0:
                return item
        return items[-1]

    def grid(self, rows: int, columns: int) -> np.ndarray:
        """Uniform numbers, float32 [rows, columns]."""
        return self._uniform((rows, columns)).astype(np.float32)

    def some(self, items: Sequence[Item], count: int) -> list[Item]:
        """`count` different items in random order."""
        rest = list(items)
        return [rest.pop(int(self._uniform() * len(rest))) for _ in range(count)]
