#!/bin/sh
# What a container does before the flow run: clone the project, unless a volume holds it.
set -eu
if [ ! -e "$METAVOX_PROJECT/dvc.yaml" ]; then
    git clone --quiet -- "$METAVOX_REPOSITORY" "$METAVOX_PROJECT"
fi
exec "$@"
