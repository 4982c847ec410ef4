#!/usr/bin/env bash
# One run on this machine, or on the hosts of a hostfile, restarted until it is finished.
#
#   cluster/mpirun.sh RANKS CONFIG [entrain train options]
#   HOSTFILE=hosts cluster/mpirun.sh 8 configs/models/ereg.toml --set train.steps=5000
#
# entrain leaves with 75 when it saved on a signal and wants to go on, 78 when starting it again would fail again.
set -euo pipefail

[ $# -ge 2 ] || { sed -n '2,7p' "$0" >&2; exit 2; }
ranks=$1
config=$2
shift 2
entrain=${ENTRAIN:-$(dirname "$0")/../build/entrain}

# Ranks are not bound: each takes its share of the cores by itself. (Open MPI would bind one or two ranks to a core each.)
options=(-n "$ranks" --bind-to none)
[ -z "${HOSTFILE:-}" ] || options+=(--hostfile "$HOSTFILE")
# A link that is cut would hang silently for minutes without these.
options+=(--mca oob_tcp_keepalive_time 3 --mca oob_tcp_keepalive_intvl 1 --mca oob_tcp_keepalive_probes 3)
[ "$(id -u)" -ne 0 ] || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

exec mpirun "${options[@]}" "$entrain" train --config "$config" "$@"
