#!/bin/bash
# Prove `poolbench sweep hydra/launcher=ray` on a real Ray cluster: a head that trains nothing and two worker nodes, each
# of its own processes, on this machine; a sweep of 6 cells, in which a worker process and then a whole node are killed.
#
#   scripts/check_ray.sh [PYTHON]     PYTHON has poolbench[ray] (default: .venv/bin/python)
#
# Everything happens in a temporary folder and ends with it. The exit code is 0 if every cell is done exactly once, with
# the results of an undisturbed sweep, and every check on the way holds.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=$(realpath -s "${1:-.venv/bin/python}")
# From here on in a folder, WORK, and below a process, HOLDER, with which all ends that is started here.
[ "${HOLDER:-}" = $PPID ] || exec "$PYTHON" scripts/held.py scripts/check_ray.sh "$PYTHON"
RAY=$(dirname "$PYTHON")/ray
ROOT=$PWD
export PYTHONPATH=$ROOT RAY_USAGE_STATS_ENABLED=0 RAY_DEDUP_LOGS=0
PORT=6391
say() { echo "== $*"; }
fail() { echo "check_ray: FAILED: $*" >&2; tail -n 20 "$WORK"/*.log >&2 || true; exit 1; }
"$PYTHON" -c 'import ray, hydra_plugins.hydra_ray_launcher' 2>/dev/null ||
  { echo "check_ray: $PYTHON lacks the launcher: pip install 'poolbench[ray]'" >&2; exit 2; }
say "starting a head and two worker nodes ($("$PYTHON" -c 'import ray; print("ray", ray.__version__)'))"
export POOLBENCH_CACHE=$WORK/cache
"$RAY" start --head --num-cpus=0 --port=$PORT --include-dashboard=false --temp-dir="$WORK/ray" >"$WORK/head.log" 2>&1 ||
  fail "the head did not start"
# Numbers of our raylets; `ray start` leaves them to HOLDER.
raylets() { pgrep -P "$HOLDER" -f raylet/raylet | sort; }
for node in 1 2; do
  before=$(raylets)
  "$RAY" start --address=127.0.0.1:$PORT --num-cpus=1 >"$WORK/node$node.log" 2>&1 || fail "node $node did not start"
  RAYLET[node]=$(comm -13 <(echo "$before") <(raylets))
  [[ ${RAYLET[node]} =~ ^[0-9]+$ ]] || fail "node $node should be one raylet, got '${RAYLET[node]}'"
done
both_up() { [[ $("$RAY" status --address=127.0.0.1:$PORT 2>/dev/null) == */2.0\ CPU* ]]; }
for _ in $(seq 60); do both_up && break; sleep 1; done
both_up || fail "the nodes did not come up"
say "three nodes; the raylets of the workers are ${RAYLET[1]} and ${RAYLET[2]}"

cd "$WORK"
CELLS=(pool=max,average,lp seeds=2 data=shapes model=fast_cnn_tiny trainer.epochs=20 trainer.sizes=null
  data.train_samples=2000 data.test_samples=200 report_dir="$WORK/report")
SWEEP=("$PYTHON" -m poolbench sweep "${CELLS[@]}" runs_dir="$WORK/runs" hydra/launcher=ray
  hydra.launcher.ray.init.address=127.0.0.1:$PORT +hydra.launcher.ray.remote.num_cpus=1)
done_cells() { ls "$WORK"/runs/*/result.json 2>/dev/null | wc -l; }
# Process numbers of the owners of unfinished cells that have finished an epoch, from the records themselves.
owners() {
  "$PYTHON" - "$WORK/runs" <<'OWNERS'
import json, pathlib, sys
for path in pathlib.Path(sys.argv[1]).glob("*/status.json"):
    status = json.loads(path.read_text())
    if status["state"] == "running" and status["epoch"] >= 1:
        print(status["pid"])
OWNERS
}
await_owner() {  # sets OWNER, one of them
  for _ in $(seq 240); do
    read -r OWNER _ <<<"$(owners | tr '\n' ' ')"
    [ -n "$OWNER" ] && return
    sleep 0.5
  done
  fail "no cell began"
}

say "a sweep of 6 cells, a task each, two at once"
"${SWEEP[@]}" >"$WORK/sweep1.log" 2>&1 & SWEEP_PID=$!
await_owner
say "kill -9 of the worker process $OWNER, in the middle of a cell"
kill -9 "$OWNER"
for _ in $(seq 120); do [ "$(done_cells)" -ge 1 ] && break; sleep 0.5; done
await_owner
say "kill -9 of a whole worker node: raylet ${RAYLET[2]} and all its processes; $(done_cells) cells done by then"
CHILDREN=$(pgrep -P "${RAYLET[2]}") || true
kill -9 "${RAYLET[2]}" $CHILDREN 2>/dev/null || true
CODE=0; wait $SWEEP_PID || CODE=$?
say "the sweep ended with exit code $CODE, $(done_cells) of 6 cells done"
if [ "$CODE" != 0 ]; then
  grep -a "^failed\|again:" "$WORK/sweep1.log" || fail "the failures are not listed"
  say "the same command again"
  CODE=0; "${SWEEP[@]}" >"$WORK/sweep2.log" 2>&1 || CODE=$?
  [ "$CODE" = 0 ] || fail "the second sweep ended with exit code $CODE"
fi
[ "$(done_cells)" = 6 ] || fail "$(done_cells) of 6 cells are done"
[ "$(ls -d "$WORK"/runs/*/ | wc -l)" = 6 ] || fail "there are $(ls -d "$WORK"/runs/*/ | wc -l) records"
[ -z "$(find "$WORK/runs" -name '.*.tmp' -o -name 'claim.*')" ] || fail "temporary files are left"
RESUMED=$({ grep -l '"resumed": [1-9]' "$WORK"/runs/*/result.json || true; } | wc -l)
[ "$RESUMED" -ge 1 ] || fail "no cell went on from an epoch of a killed task"
"$PYTHON" -m poolbench status "$WORK/runs"
say "the same cells undisturbed, on this machine without Ray"
"$PYTHON" -m poolbench sweep "${CELLS[@]}" runs_dir="$WORK/local" trainer.threads=1 >"$WORK/local.log" 2>&1 ||
  fail "the local sweep"
"$PYTHON" "$ROOT/scripts/check_same_results.py" "$WORK/runs" "$WORK/local" || fail "results differ"
say "6 of 6 cells done, each once; $RESUMED went on from an epoch that a killed task had finished"
say "PASSED"
