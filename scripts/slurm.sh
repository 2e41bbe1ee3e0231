#!/usr/bin/env bash
# One training on a SLURM cluster:  sbatch [--nodes=4] scripts/slurm.sh NAME model=... data=... [key=value ...]
# docs/scaling.md explains each line. Options of sbatch on the command line win over those here.
#SBATCH --job-name=semseg
#SBATCH --nodes=1
#SBATCH --gpus-per-node=8
#SBATCH --ntasks-per-node=8           # one task for each GPU
#SBATCH --cpus-per-task=8             # they load and decode images
#SBATCH --time=24:00:00
#SBATCH --signal=USR1@300             # five minutes before the time is over: save, queue again, exit
#SBATCH --requeue                     # and after pre-emption or a failed node
#SBATCH --open-mode=append            # one log for all starts of the job
#SBATCH --output=slurm_%j.log         # its folder must exist
set -euo pipefail
name=${1:?"usage: sbatch scripts/slurm.sh NAME [group=option] [key=value]"}
shift
export OMP_NUM_THREADS=1

# srun takes no cores from sbatch's --cpus-per-task by itself.
srun --kill-on-bad-exit=1 --cpus-per-task="${SLURM_CPUS_PER_TASK}" "${PYTHON:-.venv/bin/python}" -m src.train \
  trainer=ddp "trainer.devices=${SLURM_NTASKS_PER_NODE}" "trainer.num_nodes=${SLURM_JOB_NUM_NODES}" \
  "hydra.run.dir=runs/train/${name}" resume=auto "$@"
