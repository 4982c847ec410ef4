# shellcheck shell=bash
# NCCL's settings on this cluster, in one place: the scripts beside it source it before they start ranks on GPUs. What is set
# already in the shell that starts a run comes first.
#
# Not here: ring, one protocol, no sums in the switch (NCCL_ALGO, NCCL_PROTO, NCCL_NVLS_ENABLE), on which the order of sums hangs.
# The program sets those itself on every rank, unless they are set here. Banner and checkpoints name them.

: "${NCCL_DEBUG:=WARN}"
# The network between hosts, where NCCL takes a wrong one by itself:
#: "${NCCL_SOCKET_IFNAME:=ib0}"
#: "${NCCL_IB_HCA:=mlx5}"
# Where there is neither InfiniBand nor RoCE:
#: "${NCCL_IB_DISABLE:=1}"

export "${!NCCL_@}"
# For mpirun, which gives the shell's variables to its own host alone; srun gives them to all.
nccl_to_ranks=()
for _name in "${!NCCL_@}"; do nccl_to_ranks+=(-x "$_name"); done
unset _name
