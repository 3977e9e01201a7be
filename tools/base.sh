#!/bin/sh
# Train the base model that ships with the package: the pipeline's stages with params.base.yaml, on a corpus of its own.
set -eu
cd "$(dirname "$0")/.."

work=.metavox/base
profile=src/metavox/sources/profiles/base.yaml
mkdir -p "$work"
[ -f "$work/data/manifest.csv" ] || metavox corpus build --profile "$profile" --out "$work/data"
printf 'outs:\n- md5: %s\n  path: data\n' "$(sed -n 's/^digest: //p' "$profile")" >"$work/data.dvc"
cp released.csv bentofile.yaml requirements.lock "$work/"
for stage in prepare validate augment pretrain metatrain adapt evaluate package; do
    metavox stage "$stage" --root "$work" --params params.base.yaml
done
rm -rf src/metavox/base
cp -r "$work/artifacts/bundle/model" src/metavox/base
