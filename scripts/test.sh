#!/usr/bin/env bash
# Runs ruff, mypy and the tests, and the tests of tensor code again on JAX and PyTorch.
#
#   scripts/test.sh [pytest arguments]       paths are relative to the repository
#   scripts/test.sh -m "slow or not slow"    the long tests too, and all of them on each backend
#
# TensorFlow's tests run in two processes, or in one with `-n 0`; those on JAX run at the same time.
# Tests run on PyTorch if it is installed: `.venv/bin/python -m pip install torch`.
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

# The tests of tensor code, on another backend than TensorFlow.
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
