#!/usr/bin/env bash
# Starts Slurm on this machine, trains by train.sbatch, requeues the job in the middle of an epoch,
# and checks that each step is trained once. Then detects by detect_array.sbatch, and checks that
# each image is detected in once.
#
#   sudo bash scripts/slurm/try_locally.sh
#
# For Debian and Ubuntu as root. The daemons listen on 127.0.0.1 and end with this script.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
if ! command -v slurmctld slurmd munged > /dev/null; then
  apt-get install -y -qq slurm-wlm munge > /dev/null
fi
bash "$root/scripts/setup_venv.sh"
folder="$(mktemp -d)"
chmod 755 "$folder"
export SLURM_CONF="$folder/slurm.conf" PATH="$root/.venv/bin:$PATH" TF_CPP_MIN_LOG_LEVEL=3

stop() {
  for name in slurmd slurmctld munged; do
    [[ -f "$folder/$name.pid" ]] && kill "$(cat "$folder/$name.pid")" 2> /dev/null
  done
  sleep 2
  rm -rf "$folder"
}
trap stop EXIT

mkdir "$folder/state" "$folder/spool"
mungekey --create --keyfile="$folder/munge.key"
munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
  --pid-file="$folder/munged.pid" --log-file="$folder/munged.log" --seed-file="$folder/munge.seed"
node="$(hostname -s)"
cat > "$SLURM_CONF" << END
ClusterName=local
SlurmctldHost=$node(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
SlurmctldPort=16817
SlurmdPort=16818
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
# No control groups, which a container may not have.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
MpiDefault=none
ReturnToService=2
KillWait=120
JobRequeue=1
NodeName=$node NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=local Nodes=$node Default=YES State=UP
END
slurmctld
slurmd
for _ in $(seq 30); do
  [[ "$(sinfo -h -o %T)" == idle ]] && break
  sleep 1
done
sinfo

# This machine has no GPU, and less memory than a cluster.
for name in train detect_array; do
  sed '/--gpus=\|--mem=\|--cpus-per-task=/d' "$root/scripts/slurm/$name.sbatch" > "$folder/$name.sbatch"
done
cd "$folder"
tar -xzf "$root/samples/nucleus/nuclei_small.tar.gz"
job="$(sbatch --parsable "$folder/train.sbatch" nuclei/train --split 0 \
  --weights random --epochs 3 --batch-size 1 --name nuclei --set STEPS_PER_EPOCH=12 \
  --set IMAGE_MIN_SCALE=0 --set IMAGE_MIN_DIM=128 --set IMAGE_MAX_DIM=128)"
log="$folder/mrcnn_train-$job.log"

# shellcheck disable=SC2016  # conditions are evaluated later
# Waits for a condition, or fails and shows what there is.
wait_for() {
  for _ in $(seq 600); do
    eval "$1" && return
    [[ -z "$(squeue -h -j "$job" -o %T 2> /dev/null)" ]] && break
    sleep 1
  done
  echo "not reached: $1"
  squeue
  cat "$log"
  exit 1
}

wait_for 'compgen -G "$folder/logs/*/mask_rcnn_nuclei_0001.h5" > /dev/null'
sleep 4
echo "requeued in the second epoch, while the job is $(squeue -h -j "$job" -o %T)"
scontrol requeue "$job"
wait_for 'compgen -G "$folder/logs/*/*_step*.h5" > /dev/null'
basename "$folder"/logs/*/*_step*.h5
# Slurm lets a requeued job wait for two minutes.
wait_for 'scontrol update JobId="$job" StartTime=now 2> /dev/null; [[ "$(squeue -h -j "$job" -o %T)" == RUNNING ]]'
echo "the job runs again"
wait_for 'compgen -G "$folder/logs/*/mask_rcnn_nuclei_0003.h5" > /dev/null'
wait_for '[[ -z "$(squeue -h -j "$job" -o %T)" || "$(squeue -h -j "$job" -o %T)" == COMPLETED ]]'
cat "$log"
python - "$folder"/logs/nuclei* << 'END'
import sys

from mrcnn.training.event_files import read_run
from mrcnn.training.run import read_record

(folder,) = sys.argv[1:]
steps = read_run(folder)["Training/Loss"].steps.tolist()
epochs = [entry["epochs"] for entry in read_record(folder)]
assert steps == list(range(1, 37)), steps
assert epochs == [[1, 3], [2, 3]], epochs
print("each of the 36 steps is trained once, by two runs of one job")
END

mkdir photos
find nuclei/val -path '*/images/*.png' | head -7 | while read -r file; do cp "$file" photos/; done
job="$(sbatch --parsable --array=0-2 "$folder/detect_array.sbatch" \
  "$(compgen -G "$folder/logs/nuclei*")" photos results 3 --min-score 0.3)"
while [[ -n "$(squeue -h -j "$job" 2> /dev/null)" ]]; do
  sleep 1
done
cat "$folder"/mrcnn_detect-"$job"_*.log
python - << 'END'
import json
from pathlib import Path

shares = []
for path in sorted(Path("results").glob("*/detections.jsonl")):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    shares.append([Path(line["file_name"]).name for line in lines])
assert [len(share) for share in shares] == [3, 2, 2], shares
assert sorted(sum(shares, [])) == sorted(path.name for path in Path("photos").iterdir())
print("each of the 7 images is detected in once, by three tasks of one job")
END
