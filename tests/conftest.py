"""Shared fixtures: the optional oracles and sample data beside the project, and quiet, reproducible CPU runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def shared(*parts: str) -> Path:
    """A path in the reference material beside the project; skips the test with a reason where it is absent."""
    base = Path(os.environ.get("REFERTRACK_SHARED", ROOT.parent / "shared"))
    path = base.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"reference material not present: {'/'.join(parts)}")
    return path


@pytest.fixture(scope="session")
def oracles() -> Path:
    """Folder of the reference implementations' numbers."""
    return shared("oracles")


@pytest.fixture(scope="session")
def samples() -> Path:
    """Folder of real videos, masks and sentences."""
    return shared("data")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
