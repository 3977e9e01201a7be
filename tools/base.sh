#!/bin/sh
# Train a base that ships with the package: the pipeline's stages on a corpus of their own, resumed where they stopped.
#   tools/base.sh conformer          the small network, with params.base.yaml
#   tools/base.sh whisper-tiny.en    the word embedder and the other parts of that base, with params.whisper.yaml
set -eu
cd "$(dirname "$0")/.."

base=$1
corpus=.metavox/base-corpus
work=.metavox/base-$base
profile=src/metavox/sources/profiles/base.yaml
case $base in
conformer) params=params.base.yaml ;;
whisper-tiny.en) params=params.whisper.yaml ;;
*) echo "base.sh: got $base; expected conformer or whisper-tiny.en" >&2 && exit 2 ;;
esac

mkdir -p "$work"
[ -f "$corpus/manifest.csv" ] || metavox corpus build --profile "$profile" --out "$corpus"
ln -sfn "../base-corpus" "$work/data"
printf 'outs:\n- md5: %s\n  path: data\n' "$(sed -n 's/^digest: //p' "$profile")" >"$work/data.dvc"
cp released.csv bentofile.yaml requirements.lock "$work/"
for stage in prepare validate augment pretrain metatrain adapt evaluate package; do
    metavox stage "$stage" --root "$work" --params "$params"
done

model=$work/artifacts/bundle/model
if [ "$base" = conformer ]; then
    rm -rf src/metavox/base
    cp -r "$model" src/metavox/base
else
    parts=src/metavox/recognisers/bases/packaged/$base
    for part in short_context start embedder; do
        rm -rf "${parts:?}/$part"
        [ ! -d "$model/$part" ] || cp -r "$model/$part" "$parts/$part"
    done
    cp "$model/card.md" "$parts/card.md"
fi
