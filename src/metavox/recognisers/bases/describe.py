"""Describes base models from their files and sources, without loading them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from metavox.errors import UserError
from metavox.recognisers.bases import catalogue, store
from metavox.recognisers.bases.catalogue import CONFORMER
from metavox.recognisers.bases.files import read_json, size_bytes, vocabulary_file
from metavox.recognisers.bases.find import PIPELINE_BASES, default_embedder
from metavox.recognisers.registry import SHORT_CONTEXT, kind_of

ENGLISH_ONLY = 51864  # vocabulary size of the English-only Whisper models
LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")


@dataclass(frozen=True)
class Row:
    """A line of `metavox base list`. `languages` are codes if they are known, otherwise a phrase for people.

    `problem` says why a base model that is here cannot be used.
    """

    name: str
    kind: str
    languages: tuple[str, ...]
    size_bytes: int
    where: str
    licence: str
    revision: str
    here: bool
    short_context: bool = False
    problem: str = ""


def rows() -> Iterator[Row]:
    """The base models that come with metavox, are in the store or the pipeline's folder, or can be
    downloaded.
    """
    here = {source.name: source for source in store.all_stored()}
    for entry in catalogue.ENTRIES:
        if entry.name == CONFORMER:
            base = default_embedder()
            yield _row(base.folder, base.source)
        elif entry.name in here:
            yield _row(store.place(entry.name), here.pop(entry.name))
        else:
            yield Row(
                entry.name,
                entry.kind,
                (entry.languages,),
                entry.size_bytes,
                entry.where,
                entry.licence,
                "",
                False,
            )
    for source in here.values():
        yield _row(store.place(source.name), source)
    for folder in PIPELINE_BASES:
        if (folder / "config.json").is_file():
            yield _row(folder, store.Source(str(folder), "the pipeline made it here"))


def languages_of(folder: Path, source: store.Source) -> tuple[str, ...]:
    """ISO 639 codes that the base model transcribes, as far as its files or its model card tell."""
    kind = kind_of(folder)
    vocabulary = folder if kind == CONFORMER else vocabulary_file(folder, kind)
    if kind == "whisper" and vocabulary.is_file():
        if int(read_json(folder / "config.json").get("vocab_size", ENGLISH_ONLY)) <= ENGLISH_ONLY:
            return ("en",)
        return tuple(dict.fromkeys(LANGUAGE.findall(vocabulary.read_text(encoding="utf-8"))))
    if kind == "ctc" and (adapters := sorted(folder.glob("adapter.*.safetensors"))):
        return tuple(adapter.name.split(".")[1] for adapter in adapters)
    return source.languages


def _row(folder: Path, source: store.Source) -> Row:
    try:
        kind, languages, problem = kind_of(folder), languages_of(folder, source), ""
    except UserError as error:
        kind, languages, problem = "?", (), str(error)
    return Row(
        source.name,
        kind,
        languages,
        size_bytes(folder),
        source.where,
        source.licence,
        source.revision,
        True,
        (folder / SHORT_CONTEXT).is_dir(),
        problem,
    )
