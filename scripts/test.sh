#!/usr/bin/env bash
# Ruff, mypy, the tests, and the tests of what computes with tensors once more on JAX and PyTorch.
#
#   scripts/test.sh [pytest arguments]       paths are relative to the repository
#   scripts/test.sh -m "slow or not slow"    the long tests too, and all of them on each backend
#
# TensorFlow's tests run in two processes, `-n 0` among the arguments makes it one; JAX runs beside
# them. PyTorch is tried where it is installed, which takes `.venv/bin/python -m pip install torch`.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
bash "$root/scripts/setup_venv.sh" test
cd "$root"
unset PYTHONPATH PYTHONHOME
python="$root/.venv/bin/python"
status=0
log="$(mktemp)"
others=""
trap '[ -z "$others" ] || kill "$others" 2>/dev/null || true; rm -f "$log"' EXIT

# What computes with tensors, on another backend than TensorFlow.
test_on() {
    local name="$1" code=0
    shift
    KERAS_BACKEND="$name" "$python" -m pytest -q -p no:cacheprovider "$@" || code=$?
    # 5: the arguments chose no test that runs there.
    [ "$code" -eq 5 ] || return "$code"
}

test_on_others() {
    local status=0
    echo "== pytest on JAX: what computes with tensors"
    test_on jax "$@" || status=$?
    echo "== pytest on PyTorch: what computes with tensors"
    if "$python" -c 'import torch' 2>/dev/null; then
        test_on torch "$@" || status=$?
    else
        echo "Skipped: PyTorch is not installed (.venv/bin/python -m pip install torch)."
    fi
    return "$status"
}

echo "== ruff"
"$python" -m ruff check . || status=$?
echo "== mypy"
"$python" -m mypy || status=$?
test_on_others "$@" >"$log" 2>&1 &
others=$!
echo "== pytest on TensorFlow"
KERAS_BACKEND=tensorflow "$python" -m pytest -q -n 2 --dist loadfile "$@" || status=$?
wait "$others" || status=$?
others=""
cat "$log"
exit "$status"
