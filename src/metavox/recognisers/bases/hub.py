"""Bases from a model hub: a revision is pinned to a commit, and only safetensors, JSON and text are fetched.

huggingface_hub finds out what there is. The bytes are fetched here, since its own download (2.4) begins a file anew
after an interruption, which for gigabytes on a slow line means never; each file's digest is compared.
"""

import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from metavox.errors import UserError
from metavox.recognisers.bases import store
from metavox.recognisers.bases.catalogue import TINY, two_letters
from metavox.recognisers.bases.files import INDEX, MODEL, PICKLES, check, read_json, refuse_remote_code
from metavox.recognisers.registry import kind_of

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
ADAPTER, DEFAULT_LANGUAGE = re.compile(r"adapter\.([\w-]+)\.safetensors"), "eng"
TRIES, WAIT_S, STALLED_S = 5, 1.0, 30.0
OTHERWISE = (
    f"give a local folder in Hugging Face's form (--base FOLDER), or --base {TINY}, which needs no hub"
)


@dataclass(frozen=True)
class Remote:
    """A file at a commit; sha256 where it is a large one, else git's own digest of it."""

    name: str
    size: int
    sha256: str = ""
    blob: str = ""


def is_name(name: str) -> bool:
    """Whether this reads as ORGANISATION/MODEL or ORGANISATION/MODEL@REVISION."""
    return REPOSITORY.fullmatch(name) is not None


def fetch(name: str, languages: Sequence[str] = (), tell: store.Tell = store.to_stderr) -> store.Source:
    """Bring a hub's model into the store under its name. The caller holds its lock.

    `languages` are adapters that are wanted, of a model that has some (MMS). Raises UserError, in one line, for a hub
    that cannot be reached, a model that is not there or not harmless, a disk that is too small.
    """
    repository, _, revision = name.partition("@")
    info = _info(name, repository, revision)
    commit = str(info.sha)
    aside = store.partial(name, commit)
    aside.mkdir(exist_ok=True)
    there = {file.name: file for file in _files(info)}
    try:
        _get_all(name, repository, commit, [_known(there, name, "config.json")], aside)
        refuse_remote_code(aside)
        kind = kind_of(aside)
        wanted = _wanted(name, there, aside, repository, commit, languages)
    except UserError as error:
        shutil.rmtree(aside)
        raise UserError(str(error).replace(str(aside), name)) from error
    left = sum(_left(aside / file.name, file.size) for file in wanted)
    store.need_space(name, left)
    tell(f"fetching {name} at {commit[:12]}, {store.megabytes(left)}, once")
    _get_all(name, repository, commit, wanted, aside)
    try:
        check(aside, kind)
    except UserError as error:
        shutil.rmtree(aside)
        raise UserError(str(error).replace(str(aside), name)) from error
    source = store.Source(name, "a model hub", commit, revision, *_card(info))
    store.write_source(aside, source)
    store.put(aside, name)
    for old in store.partials(name):
        shutil.rmtree(old, ignore_errors=True)
    return source


def fetch_languages(
    source: store.Source, languages: Sequence[str], tell: store.Tell = store.to_stderr
) -> None:
    """Add adapters of languages to a base that is in the store, from the commit that it is pinned to.

    The caller holds its lock. Raises UserError for a language that the model has no adapter for.
    """
    folder, repository = store.place(source.name), source.name.partition("@")[0]
    have = adapters(file.name for file in folder.iterdir())
    missing = [language for language in languages if not fitting(have, language)]
    if not missing:
        return
    there = {file.name: file for file in _files(_info(source.name, repository, source.revision))}
    wanted = [there[_adapter(source.name, there, language)] for language in missing]
    store.need_space(source.name, sum(file.size for file in wanted))
    tell(f"fetching {', '.join(file.name for file in wanted)} of {source.name}")
    _get_all(source.name, repository, source.revision, wanted, folder)


def adapters(names: Iterable[str]) -> dict[str, str]:
    """Language, as the model calls it (ita, uzb-script_latin) -> the file of its adapter."""
    return {match[1]: name for name in names if (match := ADAPTER.fullmatch(name))}


def fitting(have: Mapping[str, str], language: str) -> str:
    """The file for a language of two or three letters; empty where there is none."""
    code = two_letters(language)
    fits = [known for known in sorted(have, key=len) if known == language or two_letters(known) == code]
    return have[fits[0]] if fits else ""


def _info(name: str, repository: str, revision: str) -> Any:
    from huggingface_hub import HfApi

    with _hub_errors(name):
        return HfApi(endpoint=_endpoint()).model_info(
            repository, revision=revision or None, files_metadata=True, timeout=STALLED_S
        )


def _endpoint() -> str:
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def _files(info: Any) -> Iterator[Remote]:
    for file in info.siblings or ():
        sha256 = str(getattr(file.lfs, "sha256", "") or "")
        yield Remote(file.rfilename, int(file.size or 0), sha256, str(file.blob_id or ""))


def _known(there: dict[str, Remote], name: str, file: str) -> Remote:
    if file not in there:
        raise UserError(
            f"{name}: has no {file} on the hub; choose another model, or another revision (NAME@REVISION)"
        )
    return there[file]


def _wanted(
    name: str, there: dict[str, Remote], aside: Path, repository: str, commit: str, languages: Sequence[str]
) -> list[Remote]:
    """The files to fetch: weights as safetensors, and what JSON and text lies beside them; never anything that runs."""
    if MODEL in there:
        weights = [there[MODEL]]
    elif INDEX in there:
        _get_all(name, repository, commit, [there[INDEX]], aside)
        parts = sorted(set(read_json(aside / INDEX).get("weight_map", {}).values()))
        weights = [_known(there, name, str(part)) for part in parts]
    else:
        pickled = [file for file in there if Path(file).suffix in PICKLES]
        raise UserError(
            f"{name}: {f'has {pickled[0]} and no' if pickled else 'has no'} {MODEL} on the hub; a pickle can run any code and "
            "is never loaded: choose a revision that has safetensors (NAME@REVISION), or another model"
        )
    asked = languages or [DEFAULT_LANGUAGE] * bool(adapters(there))
    spoken = [there[_adapter(name, there, language)] for language in asked]
    texts = [
        file
        for file in there.values()
        if "/" not in file.name
        and file.name.endswith((".json", ".txt"))
        and not file.name.startswith(("model.safetensors.index", "pytorch_model"))
    ]
    return [*texts, *spoken, *weights]


def _adapter(name: str, there: Mapping[str, Remote], language: str) -> str:
    have = adapters(there)
    if file := fitting(have, language):
        return file
    some = (
        f"{len(have)} others, such as {', '.join(sorted(have)[:8])}"
        if have
        else "no adapters of languages at all"
    )
    raise UserError(
        f"{name}: has no adapter for the language {language}, but {some}; choose another language or base"
    )


def _card(info: Any) -> tuple[str, tuple[str, ...]]:
    """(licence, languages) as the model's card tells them."""
    card = dict(info.card_data.to_dict()) if info.card_data else {}
    licence = str(card.get("license_name") or card.get("license") or "")
    languages = card.get("language") or ()
    return licence, (languages,) if isinstance(languages, str) else tuple(map(str, languages))


def _get_all(name: str, repository: str, commit: str, files: Sequence[Remote], folder: Path) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    limits = httpx.Timeout(STALLED_S)
    with httpx.Client(headers=build_hf_headers(), follow_redirects=True, timeout=limits) as client:
        for file in files:
            if (folder / file.name).exists():
                continue
            url = hf_hub_url(repository, file.name, revision=commit, endpoint=_endpoint())
            with _hub_errors(name), store.space_errors(name):
                _get(client, url, file, folder, name)


def _left(path: Path, size: int) -> int:
    """Bytes of a file that are still to come."""
    growing = path.with_name(f"{path.name}.incomplete")
    there = next((p.stat().st_size for p in (path, growing) if p.exists()), 0)
    return max(size - there, 0)


def _get(client: httpx.Client, url: str, file: Remote, folder: Path, name: str) -> None:
    """Fetch one file, going on where it stopped; it has its name only when it is whole."""
    growing = folder / f"{file.name}.incomplete"
    for attempt in range(TRIES):
        try:
            _append(client, url, growing)
            break
        except (httpx.TransportError, httpx.HTTPStatusError) as error:
            final = isinstance(error, httpx.HTTPStatusError) and error.response.status_code < 500
            if final or attempt == TRIES - 1:
                raise
            time.sleep(WAIT_S * 2**attempt)
    if not _is(growing, file):
        got = growing.stat().st_size
        growing.unlink()
        raise UserError(
            f"{name}: {file.name} came as {got} bytes that are not the hub's {file.size}; run it again"
        )
    growing.rename(folder / file.name)


def _append(client: httpx.Client, url: str, growing: Path) -> None:
    have = growing.stat().st_size if growing.exists() else 0
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    with client.stream("GET", url, headers=headers) as answer:
        if answer.status_code == 416:  # it was whole already
            return
        answer.raise_for_status()
        with growing.open("ab" if answer.status_code == 206 else "wb") as out:
            for block in answer.iter_bytes():  # as it comes: what is gathered first is lost with the line
                out.write(block)


def _is(path: Path, file: Remote) -> bool:
    if file.size and path.stat().st_size != file.size:
        return False
    with path.open("rb") as data:
        if file.sha256:
            return hashlib.file_digest(data, "sha256").hexdigest() == file.sha256
        if file.blob:
            return hashlib.sha1(b"blob %d\0" % path.stat().st_size + data.read()).hexdigest() == file.blob
    return True


@contextmanager
def _hub_errors(name: str) -> Iterator[None]:
    """What a hub and the way to it can refuse, in one line each."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise UserError(
            f"{name}: its owner asks for a login; accept its terms, set HF_TOKEN, run it again"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UserError(
            f"{name}: the hub has no such revision; give a branch, a tag or a commit of it"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"{name}: no folder here, and no model of that name on the hub (or a private one: set HF_TOKEN); check the name"
        ) from error
    except errors.OfflineModeIsEnabled as error:
        raise UserError(
            f"{name}: HF_HUB_OFFLINE is set, so no hub is asked; unset it, or {OTHERWISE}"
        ) from error
    except Exception as error:
        # huggingface_hub has httpx under another name, whose errors are none of the module's imported here.
        network = any(base.__name__ in ("HTTPError", "InvalidURL") for base in type(error).__mro__)
        if not network and not isinstance(error, ConnectionError | TimeoutError):
            raise
        reason = " ".join(f"{type(error).__name__} {error}".split())[:160]
        raise UserError(
            f"{name}: not here, and the hub cannot be reached ({reason}); run it again, which goes on where this ended, or {OTHERWISE}"
        ) from error
