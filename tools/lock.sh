#!/bin/sh
# Write requirements.lock from the packages in .venv. Run this after changing a dependency, once the tests pass.
set -eu
cd "$(dirname "$0")/.."
{
    cat <<'HEADER'
# Every package that metavox runs and is tested with, including indirect dependencies: `name==version`, nothing else.
# Written by `make lock`; installed by `make setup`.
# There are no hashes and no build tags because the build of torch differs between machines (CPU or CUDA). No package
# index is named; pip's own configuration selects it.
HEADER
    .venv/bin/python -m pip freeze --all --exclude-editable --exclude metavox --exclude pip |
        grep -E '^[A-Za-z0-9._-]+==' | sed 's/+[A-Za-z0-9.]*$//' | LC_ALL=C sort -f
} > requirements.lock.partial
mv requirements.lock.partial requirements.lock
echo "requirements.lock: $(grep -c '^[^#]*==' requirements.lock) packages"
