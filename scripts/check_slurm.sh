#!/bin/bash
# Prove `poolbench sweep hydra/launcher=submitit_slurm` on a real SLURM: a controller and two node daemons on this
# machine, a sweep of 6 cells, one job cancelled and one node daemon killed on the way, then the same sweep again.
#
#   sudo scripts/check_slurm.sh [PYTHON]     Debian or Ubuntu; PYTHON has poolbench[slurm] (default: .venv/bin/python)
#
# Installs slurm-wlm and munge where they are missing; everything else happens in a temporary folder and ends with it.
# The exit code is 0 if every cell is done exactly once in the end and every check on the way holds.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=$(realpath -s "${1:-.venv/bin/python}")
# From here on in a folder, WORK, and below a process, HOLDER, with which all ends that is started here.
[ "${HOLDER:-}" = $PPID ] || exec "$PYTHON" scripts/held.py scripts/check_slurm.sh "$PYTHON"
ROOT=$PWD
export PYTHONPATH=$ROOT
say() { echo "== $*"; }
fail() { echo "check_slurm: FAILED: $*" >&2; tail -n 20 "$WORK"/*.log >&2 || true; exit 1; }

[ "$(id -u)" = 0 ] || { echo "check_slurm: run it as root: it starts system daemons" >&2; exit 2; }
"$PYTHON" -c 'import submitit, hydra_plugins.hydra_submitit_launcher' 2>/dev/null ||
  { echo "check_slurm: $PYTHON lacks the launcher: pip install 'poolbench[slurm]'" >&2; exit 2; }
if ! command -v slurmctld >/dev/null || ! command -v munged >/dev/null; then
  say "installing slurm-wlm and munge"
  apt-get update -qq || true
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge >"$WORK/apt.log" 2>&1 ||
    fail "slurm-wlm could not be installed"
fi

# Numbers of all processes below $1. Those whose parent has ended are below HOLDER.
below() { for pid in $(pgrep -P "$1"); do echo "$pid"; below "$pid"; done; }

say "starting munged, slurmctld and two slurmd ($(slurmctld -V))"
mkdir -p "$WORK"/{munge,state,spool1,spool2}
chmod 755 "$WORK"; chmod 700 "$WORK/munge"
dd if=/dev/urandom of="$WORK/munge/key" bs=1024 count=1 status=none; chmod 400 "$WORK/munge/key"
SOCKET=$WORK/munge.socket
munged --force --foreground --key-file="$WORK/munge/key" --socket="$SOCKET" --pid-file="$WORK/munge/pid" \
  --log-file="$WORK/munge/log" --seed-file="$WORK/munge/seed" >"$WORK/munged.log" 2>&1 &
HOST=$(hostname -s)
export SLURM_CONF=$WORK/slurm.conf
cat >"$SLURM_CONF" <<CONF
ClusterName=check
SlurmctldHost=$HOST(127.0.0.1)
SlurmUser=root
SlurmctldPort=16817
AuthType=auth/munge
AuthInfo=socket=$SOCKET
CredType=cred/munge
StateSaveLocation=$WORK/state
SlurmdSpoolDir=$WORK/spool%n
SlurmctldPidFile=$WORK/slurmctld.pid
SlurmdPidFile=$WORK/slurmd-%n.pid
SlurmctldLogFile=$WORK/slurmctld.log
SlurmdLogFile=$WORK/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SlurmdTimeout=20
InactiveLimit=0
MailProg=/bin/true
ReturnToService=2
JobRequeue=0
KillWait=2
NodeName=n[1-2] NodeHostname=$HOST NodeAddr=127.0.0.1 Port=[16818-16819] CPUs=1 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
slurmctld -D -f "$SLURM_CONF" >"$WORK/ctld.out" 2>&1 &
for node in 1 2; do
  slurmd -D -N "n$node" -f "$SLURM_CONF" >"$WORK/slurmd$node.out" 2>&1 &
  SLURMD[node]=$!
done
for _ in $(seq 60); do [ "$(sinfo -h -t idle -o %D 2>/dev/null | sed -n 1p)" = 2 ] && break; sleep 1; done
[ "$(sinfo -h -t idle -o %D | sed -n 1p)" = 2 ] || fail "the two nodes did not come up: $(sinfo 2>&1)"
sinfo

cd "$WORK"
CELLS=(pool=max,average,lp seeds=2 data=shapes model=fast_cnn_tiny trainer.epochs=20 trainer.sizes=null
  data.train_samples=2000 data.test_samples=200 report_dir="$WORK/report")
SWEEP=("$PYTHON" -m poolbench sweep "${CELLS[@]}" runs_dir="$WORK/runs" hydra/launcher=submitit_slurm
  hydra.launcher.partition=all hydra.launcher.cpus_per_task=1 hydra.launcher.timeout_min=30)
export POOLBENCH_CACHE=$WORK/cache
done_cells() { ls "$WORK"/runs/*/result.json 2>/dev/null | wc -l; }
begun() { grep -ls '"epoch": [1-9]' "$WORK"/runs/*/status.json 2>/dev/null | wc -l; }

say "a sweep of 6 cells, a job each, two at once"
"${SWEEP[@]}" >"$WORK/sweep1.log" 2>&1 & SWEEP_PID=$!
for _ in $(seq 240); do [ "$(begun)" -ge 1 ] && break; kill -0 $SWEEP_PID || fail "the sweep ended early"; sleep 1; done
say "after the first epoch of a cell:"; squeue
JOB=$(squeue -h -t R -w n1 -o %i | sed -n 1p)
say "scancel $JOB (running on n1)"; scancel "$JOB"
for _ in $(seq 60); do [ -n "$(squeue -h -t R -w n2 -o %i)" ] && break; sleep 1; done
LOST=$(squeue -h -t R -w n2 -o %A | sed -n 1p)
say "kill -9 slurmd of n2 and its job's processes ($LOST): a node that dies"
{ disown "${SLURMD[2]}"; kill -9 "${SLURMD[2]}"; } 2>/dev/null
dying() {  # its step daemons, and what its job runs, which knows the node's name
  pgrep -P "$HOLDER" -f "slurmstepd: \[$LOST[.]"
  for pid in $(below "$HOLDER"); do
    if grep -qzx SLURMD_NODENAME=n2 "/proc/$pid/environ" 2>/dev/null; then echo "$pid"; fi
  done
}
# More than once: whose parent has just been killed is on its way to HOLDER, and may be seen at neither place.
for _ in $(seq 10); do { kill -9 $(dying) || true; } 2>/dev/null; sleep 0.2; done
[ -z "$(dying)" ] || fail "processes of n2 live on: $(dying)"
CODE=0; wait $SWEEP_PID || CODE=$?
tail -n 12 "$WORK/sweep1.log"
say "the sweep ended with exit code $CODE, $(done_cells) of 6 cells done"
[ "$CODE" = 1 ] || fail "exit code $CODE with lost jobs, expected 1"
[ "$(done_cells)" = 4 ] || fail "two cells should have been lost, $((6 - $(done_cells))) were"
grep -q "again: poolbench run" "$WORK/sweep1.log" || fail "the failures are not listed with their commands"

say "starting slurmd of n2 again, and the same command"
(cd / && exec slurmd -D -N n2 -f "$SLURM_CONF") >"$WORK/slurmd2b.out" 2>&1 &
scontrol update nodename=n2 state=resume 2>/dev/null || true
DONE_BEFORE=$(md5sum "$WORK"/runs/*/result.json | sort)
CODE=0; "${SWEEP[@]}" >"$WORK/sweep2.log" 2>&1 || CODE=$?
head -n 1 "$WORK/sweep2.log"
[ "$CODE" = 0 ] || fail "the second sweep ended with exit code $CODE"
[ "$(done_cells)" = 6 ] || fail "$(done_cells) of 6 cells are done"
[ "$(ls -d "$WORK"/runs/*/ | wc -l)" = 6 ] || fail "there are $(ls -d "$WORK"/runs/*/ | wc -l) records"
[ "$(echo "$DONE_BEFORE" | md5sum -c --quiet 2>&1 | wc -l)" = 0 ] || fail "a finished cell was trained again"
[ -z "$(find "$WORK/runs" -name '.*.tmp' -o -name 'claim.*')" ] || fail "temporary files are left"
"$PYTHON" -m poolbench status "$WORK/runs"
say "the same cells undisturbed, on this machine without SLURM"
"$PYTHON" -m poolbench sweep "${CELLS[@]}" runs_dir="$WORK/local" trainer.threads=1 >"$WORK/local.log" 2>&1 ||
  fail "the local sweep"
"$PYTHON" "$ROOT/scripts/check_same_results.py" "$WORK/runs" "$WORK/local" || fail "results differ"
RESUMED=$({ grep -l '"resumed": [1-9]' "$WORK"/runs/*/result.json || true; } | wc -l)
say "6 of 6 cells done, each once; $RESUMED went on from an epoch that a lost job had finished"
say "PASSED"
