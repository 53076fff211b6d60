"""The backends that can run on this machine's CPU, each named when it cannot."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from models.ops import backends, use_backend


@pytest.fixture(params=["native", "pytorch"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every call of the test runs on this backend; the test skips where it cannot run."""
    reason = backends._module(request.param).unavailable(torch.device("cpu"), torch.float32)
    if reason:
        pytest.skip(f"{request.param}: {reason.splitlines()[0]}")
    with use_backend(request.param):
        yield request.param


@pytest.fixture
def native() -> Iterator[None]:
    """As above, for what only the compiled kernels do."""
    reason = backends._module("native").unavailable(torch.device("cpu"), torch.float32)
    if reason:
        pytest.skip(f"native: {reason.splitlines()[0]}")
    with use_backend("native"):
        yield
