#!/usr/bin/env bash
# N GPUs of this machine, one process each; N must divide the config's batch.
#   scripts/launch/gpus.sh 8 configs/ref_youtube_vos_r50.yaml [KEY=VALUE ...]
# The same command again goes on from the last checkpoint. Without GPUs, add device=cpu: N processes on the CPU.
set -euo pipefail
cd "$(dirname "$0")/../.."
count=${1:?usage: gpus.sh N CONFIG [KEY=VALUE ...]}
config=${2:?usage: gpus.sh N CONFIG [KEY=VALUE ...]}
exec torchrun --standalone --nproc-per-node "$count" main.py train --config "$config" "${@:3}"
