#!/usr/bin/env bash
# Trains on the nuclei images in samples/nucleus, evaluates on held-out images and draws the result.
#
#   scripts/demo.sh [arguments of samples/nucleus/demo.py]
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
bash "$root/scripts/setup_venv.sh"
unset PYTHONPATH PYTHONHOME
export KERAS_BACKEND=tensorflow
exec "$root/.venv/bin/python" "$root/samples/nucleus/demo.py" "$@"
