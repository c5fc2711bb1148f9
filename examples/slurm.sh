#!/bin/bash
# Train on two nodes with four GPUs each under Slurm. A job that is requeued continues where it stopped.
#
#   sbatch examples/slurm.sh photos runs/photos 10h
#
# The data and the run folder must be on a disk that all nodes share.
#SBATCH --job-name=ancestral
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@120

set -euo pipefail
source=${1:?the source of data} out=${2:?the run folder} budget=${3:?the training time, e.g. 10h}
host=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

export OMP_NUM_THREADS=$((SLURM_CPUS_PER_TASK / 4))
srun torchrun \
  --nnodes "$SLURM_NNODES" --nproc-per-node 4 \
  --rdzv-id "$SLURM_JOB_ID" --rdzv-backend c10d --rdzv-endpoint "$host:29500" \
  -m ancestral train "$source" --for "$budget" --out "$out"
