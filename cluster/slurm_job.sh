# shellcheck shell=bash
# shellcheck disable=SC2034  # what is set is the templates'
# What both Slurm templates begin with: the program, and for GPUs NCCL's settings. Sourced.

# GPUs asked for on a node, "8" or "h100:8". Each is a rank's.
_gpus=${SLURM_GPUS_PER_NODE:-0}
_gpus=${_gpus##*:}
nccl_to_ranks=()
if [ "$_gpus" -gt 0 ]; then
  entrain=${ENTRAIN:-build/cuda/entrain}
  if [ "${SLURM_NTASKS_PER_NODE:-$_gpus}" -ne "$_gpus" ]; then
    echo "$_gpus GPUs on a node and $SLURM_NTASKS_PER_NODE ranks: give sbatch --ntasks-per-node=$_gpus" >&2
    exit 78
  fi
  # shellcheck source=cluster/nccl_settings.sh
  . "$(dirname "${BASH_SOURCE[0]}")/nccl_settings.sh"
else
  entrain=${ENTRAIN:-build/entrain}
fi
unset _gpus
