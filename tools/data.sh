#!/bin/sh
# Build the corpus if there is none, add it to DVC's cache, and report whether it is the version that data.dvc pins.
set -eu
cd "$(dirname "$0")/.."

[ -f data/manifest.csv ] || metavox corpus build --profile demo
[ -f data.dvc ] || exec dvc add --quiet data
dvc status --quiet data.dvc && exit 0

pinned=$(sed -n 's/^- md5: //p' data.dvc)
dvc commit --quiet --force data.dvc
now=$(sed -n 's/^- md5: //p' data.dvc)
if [ "$pinned" = "$now" ]; then
    echo "metavox: data/ is the version that data.dvc pins ($now)"
else
    echo "metavox: data/ is not the version that data.dvc pinned ($pinned); it now pins $now, and results will differ" >&2
fi
