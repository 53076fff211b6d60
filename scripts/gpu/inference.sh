#!/usr/bin/env bash
# Inference on one GPU: published sizes at 360x640, then the tiny network; results go to docs/benchmarks.
#   scripts/gpu/inference.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
for backbone in resnet50 swin_t video_swin_b; do
  python -m scripts.bench.inference --backbone "$backbone" --size 360x640 --device cuda --out docs/benchmarks
done
python -m scripts.bench.inference --weights pretrained_weights/tiny --device cuda --out docs/benchmarks
