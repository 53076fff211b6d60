#!/usr/bin/env bash
# Several machines: run this once on each of them, at about the same time. output_dir must lie on a disk they share.
#   scripts/launch/nodes.sh NODES GPUS_PER_NODE NODE_RANK FIRST_HOST CONFIG [KEY=VALUE ...]
#   on the first:  scripts/launch/nodes.sh 2 8 0 host-a configs/ref_youtube_vos_r50.yaml batch=16
#   on the second: scripts/launch/nodes.sh 2 8 1 host-a configs/ref_youtube_vos_r50.yaml batch=16
# FIRST_HOST is the name of the machine with rank 0; MASTER_PORT (29500) must be open on it.
set -euo pipefail
cd "$(dirname "$0")/../.."
usage="usage: nodes.sh NODES GPUS_PER_NODE NODE_RANK FIRST_HOST CONFIG [KEY=VALUE ...]"
nodes=${1:?$usage} gpus=${2:?$usage} rank=${3:?$usage} host=${4:?$usage} config=${5:?$usage}
exec torchrun --nnodes "$nodes" --nproc-per-node "$gpus" --node-rank "$rank" \
    --master-addr "$host" --master-port "${MASTER_PORT:-29500}" \
    main.py train --config "$config" "${@:6}"
