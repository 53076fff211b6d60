#!/usr/bin/env bash
# One optimizer step of each recipe on one GPU, on synthetic data of the recipe's size; results go to docs/benchmarks.
#   scripts/gpu/train_step.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
python -m scripts.bench.train_step --config configs/tiny.yaml --device cuda --out docs/benchmarks
python -m scripts.bench.train_step --config configs/ref_youtube_vos_r50.yaml --synthetic 360x640 --device cuda \
  --out docs/benchmarks
