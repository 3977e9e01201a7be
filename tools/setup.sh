#!/bin/sh
# Create .venv with everything that requirements.lock pins, and metavox itself. make runs this when the lock has changed.
set -eu
cd "$(dirname "$0")/.."

fail() {
    echo "metavox: $1" >&2
    exit 1
}

is_311() {
    "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null
}

if ! is_311 .venv/bin/python; then
    python=
    for candidate in "${METAVOX_PYTHON:-python3.11}" python3; do
        if is_311 "$candidate"; then
            python=$candidate
            break
        fi
    done
    [ -n "$python" ] || fail "metavox needs Python 3.11, but python3 is $(python3 -V 2>&1 || true); install 3.11, or name it in METAVOX_PYTHON"
    echo "metavox: creating .venv with $("$python" -V)"
    rm -rf .venv
    "$python" -m venv .venv >/dev/null 2>&1 ||
        fail "$python cannot create a virtual environment; install its venv package (on Debian: apt-get install python3.11-venv)"
fi

echo "metavox: installing $(grep -c '^[^#]*==' requirements.lock) packages into .venv (a few minutes the first time)"
pip() {
    .venv/bin/python -m pip --quiet --disable-pip-version-check --no-input "$@" 2>.venv/pip.log || {
        grep -v '^WARNING' .venv/pip.log >&2
        fail "pip could not install the packages in requirements.lock; its messages are above"
    }
}
pip install -r requirements.lock
pip install --no-deps --no-build-isolation --editable .
.venv/bin/python tools/torchaudio_cpu.py
