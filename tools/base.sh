#!/bin/sh
# The base model that comes with the package: the same stages with params.base.yaml, in a folder of their own.
set -eu
cd "$(dirname "$0")/.."

work=.metavox/base
mkdir -p "$work"
ln -sfn ../../data "$work/data"
cp data.dvc released.csv bentofile.yaml requirements.lock "$work/"
for stage in prepare validate augment pretrain metatrain adapt evaluate package; do
    metavox stage "$stage" --root "$work" --params params.base.yaml
done
rm -rf src/metavox/base
cp -r "$work/artifacts/bundle/model" src/metavox/base
