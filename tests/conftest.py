"""Shared fixtures: the optional oracles and sample data beside the project, and quiet, reproducible CPU runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Tests are small: a second thread gains nothing, and on a busy machine waiting for it takes many times the work.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test needs the network

# Set by .ci/run where the reference material lies beside the project: its tests may then not skip.
REQUIRE_SHARED = os.environ.get("REFERTRACK_REQUIRE_SHARED") == "1"
NOT_PRESENT = "reference material not present"


def shared(*parts: str) -> Path:
    """A path in the reference material beside the project; skips the test with a reason where it is absent."""
    base = Path(os.environ.get("REFERTRACK_SHARED", ROOT.parent / "shared"))
    path = base.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{NOT_PRESENT}: {'/'.join(parts)}")
    return path


@pytest.fixture(scope="session")
def oracles() -> Path:
    """Folder of the reference implementations' numbers."""
    return shared("oracles")


@pytest.fixture(scope="session")
def samples() -> Path:
    """Folder of real videos, masks and sentences."""
    return shared("data")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the skip of a test that compares with reference material into a failure, when that is required."""
    report = yield
    needs_oracles = "oracles" in getattr(item, "fixturenames", ())
    if REQUIRE_SHARED and report.skipped and (needs_oracles or NOT_PRESENT in str(report.longrepr)):
        report.outcome = "failed"
        report.longrepr = f"skipped, but REFERTRACK_REQUIRE_SHARED=1: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
