#!/bin/sh
# Makes .venv with everything that requirements.lock pins, and metavox itself. Run by make, when the lock changed.
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
    [ -n "$python" ] || fail "Python 3.11 is needed; python3 is $(python3 -V 2>&1 || true): install it, or name it in METAVOX_PYTHON"
    echo "metavox: making .venv with $("$python" -V)"
    rm -rf .venv
    "$python" -m venv .venv >/dev/null 2>&1 ||
        fail "$python cannot make a virtual environment: install its venv package (on Debian: apt-get install python3.11-venv)"
fi

echo "metavox: installing $(grep -c '^[^#]*==' requirements.lock) packages into .venv (a minute or two the first time)"
run() {
    "$@" >.venv/install.log 2>&1 || {
        cat .venv/install.log >&2
        fail "what requirements.lock names could not be installed; the words above say why"
    }
}

# uv takes a quarter of pip's time, and does not read pip's settings: the environment, else pip's files.
pip_setting() {
    value=$(printenv "PIP_$(echo "$1" | tr a-z- A-Z_)") ||
        value=$(.venv/bin/python -m pip config get "global.$1" 2>/dev/null) || value=
    printf '%s' "$value" | tr '\n' ' '
}
uv_setting() {
    [ -n "$(printenv "$1")" ] || [ -z "$2" ] || export "$1=$2"
}
uv_setting UV_DEFAULT_INDEX "$(pip_setting index-url)"
uv_setting UV_INDEX "$(pip_setting extra-index-url)"
uv_setting UV_FIND_LINKS "$(pip_setting find-links | tr ' ' ',')"
uv_setting UV_CONSTRAINT "$(pip_setting constraint)"
uv_setting SSL_CERT_FILE "$(pip_setting cert)"
export UV_INDEX_STRATEGY=unsafe-best-match UV_HTTP_TIMEOUT=180 UV_NO_PROGRESS=1 # the best version of all indexes, as pip

run .venv/bin/python -m pip install --disable-pip-version-check --no-input uv==0.13.9
run .venv/bin/uv pip install --python .venv/bin/python --compile-bytecode -r requirements.lock
run .venv/bin/python -m pip install --disable-pip-version-check --no-input --no-deps --no-build-isolation --editable .
.venv/bin/python tools/torchaudio_cpu.py
