#!/bin/sh
# Writes requirements.lock from what is installed in .venv: run it after a dependency changed and the tests passed.
set -eu
cd "$(dirname "$0")/.."
{
    cat <<'HEADER'
# Every package metavox runs and is tested with, and what they need in turn: `name==version`, nothing else.
# Written by `make lock`; installed by `make setup`.
# There are no hashes because the build of torch differs from machine to machine (CPU here, CUDA there), so
# `torch==2.13.0` stands without a build tag. No package index is named either: pip's own settings say which.
HEADER
    .venv/bin/python -m pip freeze --all --exclude-editable --exclude metavox --exclude pip |
        grep -E '^[A-Za-z0-9._-]+==' | sed 's/+[A-Za-z0-9.]*$//' | LC_ALL=C sort -f
} > requirements.lock.partial
mv requirements.lock.partial requirements.lock
echo "requirements.lock: $(grep -c '^[^#]*==' requirements.lock) packages"
