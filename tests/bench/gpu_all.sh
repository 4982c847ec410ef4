#!/usr/bin/env bash
# Everything that wants a GPU, in about ten minutes: tests, compute-sanitizer on small shapes, a training run, speed, PyTorch beside it.
# A part that fails, or whose time is up, does not stop the others. Ends with a table; what the parts said goes to $OUT or gpu_results.
#
#   gpu_all.sh [BUNDLE]     an entrain-VERSION-cuda.tar.gz, or its folder; else the folder that this script lies in, or a bundle
#                           that `./run bundle` makes now
#   SECONDS_IN_ALL=570 ONLY='tests models' gpu_all.sh
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
results=${OUT:-$PWD/gpu_results}
whole=${SECONDS_IN_ALL:-570}
only=${ONLY:-}
mkdir -p "$results"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
: >"$results/parts.txt"
SECONDS=0

# ---- the programs ----

find_bundle() {
  local given=${1:-}
  if [ -z "$given" ] && [ -x "$here/../bin/entrain" ]; then
    given=$here/..
  elif [ -z "$given" ]; then
    (cd "$here/../.." && ./run bundle "$work/bundle") >"$work/bundle.log" 2>&1 || {
      echo "gpu_all.sh: no bundle given, and none could be made:" >&2
      tail -n 5 "$work/bundle.log" >&2
      exit 2
    }
    given=$work/bundle
  elif [ -f "$given" ]; then
    tar -xf "$given" -C "$work" || exit 2
    given=$(dirname "$(dirname "$(find "$work" -path '*/bin/entrain' | head -n 1)")")
  fi
  bundle=$(cd "$given" && pwd)
}

# ---- parts ----

# part NAME SECONDS COMMAND...: in a shell of its own, what it says to $results/NAME.log. 77: left out, its last line says why.
part() {
  local name=$1 limit=$2 left=$((whole - SECONDS)) start=$SECONDS code=0 status reason=
  shift 2
  if [ -n "$only" ] && [[ " $only " != *" $name "* ]]; then return; fi
  [ "$limit" -le "$left" ] || limit=$left
  if [ "$limit" -lt 5 ]; then
    code=77
    echo "no time left" >"$results/$name.log"
  else
    timeout -k 5 "$limit" bash -c "$(declare -f "$1"); $*" >"$results/$name.log" 2>&1 || code=$?
  fi
  case $code in
    0) status=PASS ;;
    77) status=SKIP ;;
    *) status=FAIL ;;
  esac
  if [ $status != PASS ] || [ "$name" = tests ]; then reason=$(tail -n 1 "$results/$name.log"); fi
  if [ $status = FAIL ] && [ "$name" != tests ]; then
    reason=$(grep -iE 'failed|error' "$results/$name.log" | tail -n 1)
    reason=${reason:-$(tail -n 1 "$results/$name.log")}
  fi
  reason=$(tr -d '"\\\t' <<<"$reason" | cut -c 1-150)
  if [ $code -eq 124 ] || [ $code -eq 137 ]; then reason="its $limit seconds were up; ${reason}"; fi
  printf '%s\t%s\t%s\t%s\n' "$name" "$status" "$((SECONDS - start))" "$reason" >>"$results/parts.txt"
  printf '%-12s %-5s %4d s  %s\n' "$name" "$status" "$((SECONDS - start))" "$reason"
}

# One suite of gpu_tests, so that a crash ends no other; what failed comes last. By its path: death tests start it again.
run_suite() {
  local log
  log=$(mktemp)
  if timeout 200 "$bundle/bin/gpu_tests" --gtest_brief=0 --gtest_filter="$1.*" >"$log" 2>&1; then
    if grep -q '^\[  PASSED  \] 0 tests' "$log"; then
      echo "SKIP $1: $(grep -m 1 -A 1 ': Skipped' "$log" | tail -n 1)"
    else
      echo "PASS $1 $(grep -o '([0-9]* ms total)' "$log" | tail -n 1)" $(sed -n 's/^\(entropy error\)/; \1/p' "$log")
    fi
  else
    echo "FAIL $1 (exit code $?)"
    grep -vE '^\[( +OK |  PASSED  | RUN  |-----|=====)' "$log" | tail -n 40
  fi
  rm -f "$log"
}

tests() {
  local log=$work/tests
  command -v gpu_tests >/dev/null || { echo "no gpu_tests in the bundle"; return 77; }
  gpu_tests --gtest_list_tests | sed -n 's/^\([^ ].*\)\.\( .*\)\?$/\1/p' |
    xargs -P "$jobs" -I{} bash -c 'run_suite {}' >"$log"
  sort -r "$log" | grep -E '^(PASS|SKIP)'
  grep -vE '^(PASS|SKIP)' "$log"
  local why
  why=$(sed -n 's/^SKIP [^:]*: //p' "$log" | sort | uniq -c | sort -rn | sed -n '1s/^ *[0-9]* */: /p')
  echo "$(grep -c '^PASS' "$log") suites passed, $(grep -c '^FAIL' "$log") failed, $(grep -c '^SKIP' "$log") left out$why"
  ! grep -q '^FAIL' "$log" || return 1
  # A few need no GPU.
  [ -n "$gpu" ] && grep -q '^PASS' "$log" || return 77
}

whole_runs='DeviceSwitchTest.*:TunedRunsTest.*'

# Whole models: golden cases, and every variant's gradients, recomputation and decoding.
models() {
  command -v models_and_runs_on_gpu >/dev/null || { echo "no tests of models in the bundle"; return 77; }
  models_and_runs_on_gpu --gtest_brief=1 --gtest_filter="-$whole_runs"
}

# Whole runs of small models: again to the bit, as a graph and not, on from a CPU, several ranks on the one GPU, by a table.
runs() {
  command -v models_and_runs_on_gpu >/dev/null || { echo "no tests of runs in the bundle"; return 77; }
  export ENTRAIN_TEST_BINARY=$bundle/bin/entrain ENTRAIN_TEST_MPIRUN=${OPAL_PREFIX:+$OPAL_PREFIX/bin/mpirun}
  [ -n "$ENTRAIN_TEST_MPIRUN" ] || ENTRAIN_TEST_MPIRUN=$(command -v mpirun)
  models_and_runs_on_gpu --gtest_brief=1 --gtest_filter="$whole_runs"
}

# Tokens, a few hundred steps, a stop on purpose and a continuation, on the GPU.
training() {
  [ -n "$gpu" ] || { echo "$no_gpu"; return 77; }
  cd "$work" || return
  local train=(entrain train --config "$bundle/configs/demo.toml" --set train.device=cuda --set train.steps=300
    --set checkpoint.every=100 --set validation.every=0 --set optimizer.warmup_steps=20) code=0
  entrain tokenize --input "$bundle/configs/demo/pycode-small.jsonl" --output runs/demo-data --split-field split --overwrite || return
  "${train[@]}" --stop-at 150 || code=$?
  [ $code -eq 75 ] || return 1
  "${train[@]}" && entrain sample --model runs/demo --device cuda --prompt 'def __init__(self' --tokens 40 --seed 1
}

sanitizer() {
  [ -n "$gpu" ] || { echo "$no_gpu"; return 77; }
  local found
  found=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer /opt/nvidia/*/*/compute-sanitizer 2>/dev/null | head -n 1)
  [ -n "$found" ] || { echo "compute-sanitizer is not installed"; return 77; }
  # Products alone are cuBLASLt's, and take seconds each under racecheck; whole steps have some of them.
  local code=0 model
  "$found" --tool "$1" --error-exitcode 9 gpu_bench --smoke ops || code=$?
  for model in sm-ln-g ereg; do
    "$found" --tool "$1" --error-exitcode 9 gpu_bench --smoke --profile "tiny $model 2 x 32" || code=$?
  done
  return $code
}
memcheck() { eval "$sanitizer_function"; sanitizer memcheck; }
racecheck() { eval "$sanitizer_function"; sanitizer racecheck; }

bench() {
  [ -n "$gpu" ] || { echo "$no_gpu"; return 77; }
  gpu_bench --quick --json "$results/bench.jsonl"
}

# Without the bundle's libraries on the path: PyTorch brings its own.
torch() {
  command -v python3 >/dev/null || { echo "no python3"; return 77; }
  LD_LIBRARY_PATH=$library_path python3 "$here/torch_baseline.py" --quick --budget 110 --results "$results/bench.jsonl" --json "$results/torch.jsonl"
}

# ---- all of it ----

library_path=${LD_LIBRARY_PATH:-}
find_bundle "$@"
# shellcheck disable=SC1091
[ ! -f "$bundle/env.sh" ] || . "$bundle/env.sh"
PATH=$bundle/bin:$PATH
jobs=$(($(nproc) < 8 ? $(nproc) : 8))
gpu=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null | head -n 1)
# Without nvidia-smi: gpu_bench looks for a GPU before it says that there is no such case.
no_gpu=$(gpu_bench no_such_case 2>&1 | head -n 1)
[ -n "$gpu" ] || [[ $no_gpu != *'no case'* ]] || gpu="a GPU, but no nvidia-smi"
no_gpu=${no_gpu#gpu_bench: left out: }
sanitizer_function=$(declare -f sanitizer)
export -f run_suite
export bundle work results gpu no_gpu here jobs library_path sanitizer_function whole_runs
rm -f "$results/bench.jsonl" "$results/torch.jsonl"
echo "machine: ${gpu:-$no_gpu}"

part tests 120 tests
part models 60 models
part runs 60 runs
part training 40 training
part bench 150 bench
part memcheck 60 memcheck
part racecheck 90 racecheck
part torch 130 torch

# ---- what came out ----

as_json() {
  printf '{"machine": "%s", "parts": [' "${gpu:-none}"
  awk -F '\t' '{ printf "%s{\"name\": \"%s\", \"status\": \"%s\", \"seconds\": %s, \"reason\": \"%s\"}", (NR > 1 ? ", " : ""), $1, $2, $3, $4 }' "$results/parts.txt"
  printf '], "figures": [%s]}\n' "$(cat "$results"/{bench,torch}.jsonl 2>/dev/null | paste -s -d ,)"
}
as_json >"$results/results.json"
{
  echo "machine: ${gpu:-$no_gpu}"
  awk -F '\t' '{ printf "%-12s %-5s %4d s  %s\n", $1, $2, $3, $4 }' "$results/parts.txt"
  for name in bench torch; do
    [ ! -s "$results/$name.jsonl" ] || { echo; cat "$results/$name.log"; }
  done
} >"$results/summary.txt"
# Few files: those of the parts become one.
for log in "$results"/{tests,models,runs,training,memcheck,racecheck}.log; do
  [ ! -f "$log" ] || { printf '\n==== %s\n' "$(basename "$log")"; cat "$log"; rm "$log"; }
done >"$results/logs.txt"
rm -f "$results/parts.txt"
echo
cat "$results/summary.txt"
! grep -q '"status": "FAIL"' "$results/results.json"
