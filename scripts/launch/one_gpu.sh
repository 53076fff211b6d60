#!/usr/bin/env bash
# One GPU (or the CPU). The batch of the config stays as it is: what does not fit at once is accumulated.
#   scripts/launch/one_gpu.sh configs/ref_youtube_vos_r50.yaml [KEY=VALUE ...]
# The same command again goes on from the last checkpoint.
set -euo pipefail
cd "$(dirname "$0")/../.."
config=${1:?usage: one_gpu.sh CONFIG [KEY=VALUE ...]}
exec python main.py train --config "$config" "${@:2}"
