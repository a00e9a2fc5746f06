#!/usr/bin/env bash
# Makes .venv in this checkout, or updates it; does nothing if it is up to date.
#
#   scripts/setup_venv.sh          what the package needs to run
#   scripts/setup_venv.sh test     and what the tests need: an extra of pyproject.toml
#
# PYTHON=/path/to/python chooses the interpreter; otherwise the first of python3, python3.13 ...
# python3.10 that is Python 3.10 to 3.13.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="$root/.venv"
extra="${1:-}"
suffix="${extra:+-$extra}"
unset PYTHONPATH PYTHONHOME

# A checkout that moved or whose requirements changed is installed again.
requirements="$root $(cat "$root/pyproject.toml" "$root/requirements.txt" | cksum)"
# Without an extra, any complete installation is enough: ".installed" matches ".installed-test" too.
if grep -qsxF -- "$requirements" "$venv/.installed$suffix"*; then
    exit 0
fi

usable() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' \
        >/dev/null 2>&1
}

find_python() {
    local name
    for name in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python3.10; do
        if usable "$name"; then
            echo "$name"
            return
        fi
        if [ -n "${PYTHON:-}" ]; then
            echo "setup_venv.sh: PYTHON=$PYTHON is not Python 3.10 to 3.13 with venv." >&2
            return 1
        fi
    done
    echo "setup_venv.sh: found no Python 3.10 to 3.13 with the venv module. Install one (on" \
        "Debian and Ubuntu: apt install python3 python3-venv), or name one: PYTHON=/path/to/python." >&2
    return 1
}

if ! usable "$venv/bin/python"; then
    python="$(find_python)"
    "$python" -m venv --clear "$venv"
fi
echo "Installing into $venv (once; some minutes) ..."
"$venv/bin/python" -m pip install -qq --editable "$root${extra:+[$extra]}"

# Two builds of OpenCV share the folder cv2 (imaug asks for both). The one that pip writes last
# needs libGL, which servers and containers often lack; the other one does not.
if ! error="$("$venv/bin/python" -c 'import cv2' 2>&1)"; then
    case "$error" in
        *libGL* | *libgthread* | *libglib*) ;;
        *) echo "$error" >&2; exit 1 ;;
    esac
    echo "This machine has no libGL: taking the build of OpenCV that does without."
    "$venv/bin/python" -m pip install -qq --force-reinstall --no-deps \
        "opencv-python-headless==$("$venv/bin/python" -c \
            'from importlib.metadata import version; print(version("opencv-python-headless"))')"
    "$venv/bin/python" -c 'import cv2'
fi
echo "$requirements" >"$venv/.installed$suffix"
