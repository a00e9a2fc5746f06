#!/usr/bin/env bash
# Ruff, the tests, and the tests of what computes with tensors once more on JAX.
#
#   scripts/test.sh [pytest arguments]       paths are relative to the repository
#   scripts/test.sh -m "slow or not slow"    the long tests too
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
bash "$root/scripts/setup_venv.sh" test
cd "$root"
unset PYTHONPATH PYTHONHOME
python="$root/.venv/bin/python"
status=0

echo "== ruff"
"$python" -m ruff check . || status=$?
echo "== pytest on TensorFlow"
KERAS_BACKEND=tensorflow "$python" -m pytest -q "$@" || status=$?
echo "== pytest on JAX: what computes with tensors"
code=0
KERAS_BACKEND=jax "$python" -m pytest -q "$@" || code=$?
# 5: the arguments chose no test that runs on JAX.
if [ "$code" -ne 0 ] && [ "$code" -ne 5 ]; then
    status=$code
fi
exit "$status"
