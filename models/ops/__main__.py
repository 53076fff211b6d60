"""The operator's kernels on this machine: what runs and why, and building them ahead.

    python -m models.ops status
    python -m models.ops build                       # what this machine has tools and devices for
    python -m models.ops build cuda --cuda-arch 9.0  # on a machine without a GPU, for one with it

Build ahead for containers, for machines without a compiler (the library must lie in the cache or in models/ops/lib
there), before jobs of many processes, and before a CUDA graph is captured.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import torch

from models.ops import build
from models.ops.backends import status
from models.ops.tools import BuildError
from util.errors import InputError


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 0 done, 1 something could not be built, 2 bad input."""
    logging.basicConfig(format="%(message)s")
    options = _options(arguments)
    try:
        return print_status() if options.command == "status" else build_ahead(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def print_status() -> int:
    """A line per device and kernel; builds what is still to be built, since that decides."""
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        for line in status(device):
            state = "runs" if line.chosen else "available" if line.available else "unavailable"
            print(f"{line.device:<5} {line.name:<8} {state:<12} {line.note}")
    return 0


def build_ahead(options: argparse.Namespace) -> int:
    """Build each kind asked for; without one, the CPU's and with a GPU or --cuda-arch CUDA's."""
    kinds: list[build.Kind] = options.kinds
    if not kinds:
        kinds = ["cpu", "cuda"] if options.cuda_arch or torch.cuda.is_available() else ["cpu"]
    failed = False
    for kind in kinds:
        try:
            print(f"{kind}: {build.library(build.recipe(kind, options.cuda_arch), options.into)}")
        except BuildError as error:
            failed = True
            print(f"{kind}: {error}", file=sys.stderr)
    return int(failed)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m models.ops", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("status", help="which kernel runs on which device, and why not the others")
    ahead = commands.add_parser("build", help="build the native libraries now instead of at the first call")
    ahead.add_argument("kinds", nargs="*", metavar="KIND", help="cpu, cuda (default: what this machine has)")
    ahead.add_argument(
        "--cuda-arch", nargs="+", metavar="X.Y", help="compute capabilities (default: TORCH_CUDA_ARCH_LIST, the GPUs)"
    )
    ahead.add_argument("--into", type=Path, help="folder (default: REFERTRACK_OPS_CACHE or ~/.cache/refertrack)")
    options = parser.parse_args(arguments)
    for kind in getattr(options, "kinds", []):
        if kind not in ("cpu", "cuda"):
            parser.error(f"KIND is cpu or cuda, not {kind!r}")
    return options


if __name__ == "__main__":
    sys.exit(main())
