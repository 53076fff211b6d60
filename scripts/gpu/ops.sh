#!/usr/bin/env bash
# Deformable attention on one GPU, at most nine minutes: builds, checks, measures, prints the table; the result goes to
# docs/benchmarks. Without a GPU: --dry-run.
#   scripts/gpu/ops.sh [--dry-run] [--out FOLDER]
set -euo pipefail
cd "$(dirname "$0")/../.."
exec "${PYTHON:-python}" -m scripts.gpu.ops_check "$@"
