#!/usr/bin/env bash
# One run on this machine, or on the hosts of a hostfile. When a rank or a host is lost it is started again from its last
# checkpoint, as long as it gets on: once without a new checkpoint, and it is left to you.
#
#   cluster/mpirun.sh RANKS CONFIG [entrain train options]
#   HOSTFILE=hosts cluster/mpirun.sh 8 configs/models/ereg.toml --set train.steps=5000
#   ENTRAIN=build/cuda/entrain cluster/mpirun.sh 8 configs/models/ereg.toml      on GPUs; NCCL's settings: nccl_settings.sh
#
# Ctrl-C, HUP, TERM and USR1 make it save and leave (75), as a STOP file in its folder does; a second Ctrl-C ends it at once.
# None is followed by another start.
set -uo pipefail

[ $# -ge 2 ] || { sed -n '2,10p' "$0" >&2; exit 2; }
ranks=$1
config=$2
shift 2
entrain=${ENTRAIN:-$(dirname "$0")/../build/entrain}

# Ranks are not bound: each takes its share of the cores by itself. (Open MPI would bind one or two ranks to a core each.)
options=(-n "$ranks" --bind-to none)
[ -z "${HOSTFILE:-}" ] || options+=(--hostfile "$HOSTFILE")
# A link that is cut would hang silently for minutes without these.
options+=(--mca oob_tcp_keepalive_time 3 --mca oob_tcp_keepalive_intvl 1 --mca oob_tcp_keepalive_probes 3)
# shellcheck source=cluster/nccl_settings.sh
. "$(dirname "$0")/nccl_settings.sh"
options+=("${nccl_to_ranks[@]}")
# shellcheck disable=SC2206  # words of further options
options+=(${MPIRUN_OPTIONS:-})
[ "$(id -u)" -ne 0 ] || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

# A dry run finds what is wrong before anything starts, and knows where the run lies.
plan=$("$entrain" train --config "$config" "$@" --dry-run --ranks "$ranks") || exit
run_dir=$(sed -n 's/^output *//p' <<<"$plan")
newest() { find "$run_dir/checkpoints" -maxdepth 1 -name 'step_????????' 2>/dev/null | sort | tail -n 1; }

# mpirun has a session of its own, so that a Ctrl-C comes to this script alone and is passed on as USR1, which mpirun forwards
# whole; INT and TERM it would turn into a kill a second later. It runs in the background because bash runs a trap only when its
# foreground command ends; a wait that the signal interrupts is repeated.
asked=0
mpirun_pid=
leave() {
  local signal=USR1
  [ "$1" != INT ] || [ "$asked" -eq 0 ] || signal=TERM
  asked=1
  [ -z "$mpirun_pid" ] || kill -"$signal" "$mpirun_pid" 2>/dev/null
}
for signal in USR1 TERM HUP INT; do
  # shellcheck disable=SC2064  # the name of now
  trap "leave $signal" "$signal"
done

while [ "$asked" -eq 0 ]; do
  before=$(newest)
  setsid mpirun "${options[@]}" "$entrain" train --config "$config" "$@" </dev/null &
  mpirun_pid=$!
  code=0
  wait "$mpirun_pid" || code=$?
  while kill -0 "$mpirun_pid" 2>/dev/null; do
    code=0
    wait "$mpirun_pid" || code=$?
  done
  case $code in 0 | 2 | 75 | 78) exit $code ;; esac
  [ "$asked" -eq 0 ] || exit $code
  if [ "$(newest)" = "$before" ]; then
    echo "cluster/mpirun.sh: ended with $code and no checkpoint since the last start: not started again" >&2
    exit $code
  fi
  echo "cluster/mpirun.sh: ended with $code; continuing from $(newest)" >&2
done
exit 75  # asked to leave between two starts
