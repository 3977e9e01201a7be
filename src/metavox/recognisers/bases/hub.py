"""Fetches base models from a model hub: pinned to a commit, and only safetensors, JSON and text files.

huggingface_hub lists the files. They are downloaded here, because its own download (2.4) restarts a file
after an interruption, so that gigabytes on a slow connection never finish. The digest of each file is
checked.
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
from typing import TYPE_CHECKING, Any

from metavox.errors import UserError
from metavox.recognisers.bases import store
from metavox.recognisers.bases.catalogue import TINY, two_letters
from metavox.recognisers.bases.files import INDEX, MODEL, PICKLES, check, read_json, refuse_remote_code
from metavox.recognisers.registry import kind_of

if TYPE_CHECKING:
    import httpx

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
ADAPTER, DEFAULT_LANGUAGE = re.compile(r"adapter\.([\w-]+)\.safetensors"), "eng"
TRIES, WAIT_S, TIMEOUT_S = 5, 1.0, 30.0
ALTERNATIVES = (
    f"give a local folder in Hugging Face's form (--base FOLDER), or --base {TINY}, which needs no hub"
)


@dataclass(frozen=True)
class RemoteFile:
    """A file at a commit; `sha256` for a large file, otherwise git's own digest as `blob`."""

    name: str
    size: int
    sha256: str = ""
    blob: str = ""


def is_repository_name(name: str) -> bool:
    """Whether `name` has the form ORGANISATION/MODEL or ORGANISATION/MODEL@REVISION."""
    return REPOSITORY.fullmatch(name) is not None


def fetch(name: str, languages: Sequence[str] = (), tell: store.Tell = store.to_stderr) -> store.Source:
    """Fetch a hub's model into the store under its name. The caller holds its lock.

    `languages` select the adapters of a model that has them (MMS). Raises UserError if the hub cannot be
    reached, the model does not exist or is not safe, or the disk is too small.
    """
    repository, _, revision = name.partition("@")
    info = _info(name, repository, revision)
    commit = str(info.sha)
    partial = store.partial(name, commit)
    partial.mkdir(exist_ok=True)
    available = {file.name: file for file in _files(info)}
    try:
        _download_all(name, repository, commit, [_required(available, name, "config.json")], partial)
        refuse_remote_code(partial)
        kind = kind_of(partial)
        wanted = _files_to_fetch(name, available, partial, repository, commit, languages)
    except UserError as error:
        shutil.rmtree(partial)
        raise UserError(str(error).replace(str(partial), name)) from error
    left = sum(_missing_bytes(partial / file.name, file.size) for file in wanted)
    store.need_space(name, left)
    tell(f"fetching {name} at {commit[:12]}, {store.megabytes(left)}, once")
    _download_all(name, repository, commit, wanted, partial)
    try:
        check(partial, kind)
    except UserError as error:
        shutil.rmtree(partial)
        raise UserError(str(error).replace(str(partial), name)) from error
    source = store.Source(name, "a model hub", commit, revision, *_card(info))
    store.write_source(partial, source)
    store.put(partial, name)
    for old in store.partials(name):
        shutil.rmtree(old, ignore_errors=True)
    return source


def fetch_languages(
    source: store.Source, languages: Sequence[str], tell: store.Tell = store.to_stderr
) -> None:
    """Add language adapters to a base model in the store, from the commit that it is pinned to.

    The caller holds its lock. Raises UserError for a language that the model has no adapter for.
    """
    folder, repository = store.place(source.name), source.name.partition("@")[0]
    installed = adapters(file.name for file in folder.iterdir())
    missing = [language for language in languages if not fitting(installed, language)]
    if not missing:
        return
    available = {file.name: file for file in _files(_info(source.name, repository, source.revision))}
    wanted = [available[_adapter(source.name, available, language)] for language in missing]
    store.need_space(source.name, sum(file.size for file in wanted))
    tell(f"fetching {', '.join(file.name for file in wanted)} of {source.name}")
    _download_all(source.name, repository, source.revision, wanted, folder)


def adapters(names: Iterable[str]) -> dict[str, str]:
    """The files of language adapters by the model's own codes (ita, uzb-script_latin)."""
    return {match[1]: name for name in names if (match := ADAPTER.fullmatch(name))}


def fitting(installed: Mapping[str, str], language: str) -> str:
    """The file for a language with a code of two or three letters; empty if there is none."""
    code = two_letters(language)
    fits = [known for known in sorted(installed, key=len) if known == language or two_letters(known) == code]
    return installed[fits[0]] if fits else ""


def _info(name: str, repository: str, revision: str) -> Any:
    from huggingface_hub import HfApi

    with _hub_errors(name):
        return HfApi(endpoint=_endpoint()).model_info(
            repository, revision=revision or None, files_metadata=True, timeout=TIMEOUT_S
        )


def _endpoint() -> str:
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def _files(info: Any) -> Iterator[RemoteFile]:
    for file in info.siblings or ():
        sha256 = str(getattr(file.lfs, "sha256", "") or "")
        yield RemoteFile(file.rfilename, int(file.size or 0), sha256, str(file.blob_id or ""))


def _required(available: dict[str, RemoteFile], name: str, file: str) -> RemoteFile:
    if file not in available:
        raise UserError(
            f"{name}: has no {file} on the hub; choose another model, or another revision (NAME@REVISION)"
        )
    return available[file]


def _files_to_fetch(
    name: str,
    available: dict[str, RemoteFile],
    partial: Path,
    repository: str,
    commit: str,
    languages: Sequence[str],
) -> list[RemoteFile]:
    """The files to fetch: weights as safetensors, and the JSON and text beside them; never anything
    executable.
    """
    if MODEL in available:
        weights = [available[MODEL]]
    elif INDEX in available:
        _download_all(name, repository, commit, [available[INDEX]], partial)
        shards = sorted(set(read_json(partial / INDEX).get("weight_map", {}).values()))
        weights = [_required(available, name, str(shard)) for shard in shards]
    else:
        pickles = [file for file in available if Path(file).suffix in PICKLES]
        raise UserError(
            f"{name}: {f'has {pickles[0]} and no' if pickles else 'has no'} {MODEL} on the hub; a pickle can run any code and "
            "is never loaded: choose a revision that has safetensors (NAME@REVISION), or another model"
        )
    codes = languages or [DEFAULT_LANGUAGE] * bool(adapters(available))
    adapter_files = [available[_adapter(name, available, language)] for language in codes]
    texts = [
        file
        for file in available.values()
        if "/" not in file.name
        and file.name.endswith((".json", ".txt"))
        and not file.name.startswith(("model.safetensors.index", "pytorch_model"))
    ]
    return [*texts, *adapter_files, *weights]


def _adapter(name: str, available: Mapping[str, RemoteFile], language: str) -> str:
    installed = adapters(available)
    if file := fitting(installed, language):
        return file
    alternatives = (
        f"{len(installed)} others, such as {', '.join(sorted(installed)[:8])}"
        if installed
        else "no language adapters at all"
    )
    raise UserError(
        f"{name}: has no adapter for the language {language}, but {alternatives}; choose another language or base"
    )


def _card(info: Any) -> tuple[str, tuple[str, ...]]:
    """The licence and the languages that the model card gives."""
    card = dict(info.card_data.to_dict()) if info.card_data else {}
    licence = str(card.get("license_name") or card.get("license") or "")
    languages = card.get("language") or ()
    return licence, (languages,) if isinstance(languages, str) else tuple(map(str, languages))


def _download_all(name: str, repository: str, commit: str, files: Sequence[RemoteFile], folder: Path) -> None:
    import httpx
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    limits = httpx.Timeout(TIMEOUT_S)
    with httpx.Client(headers=build_hf_headers(), follow_redirects=True, timeout=limits) as client:
        for file in files:
            if (folder / file.name).exists():
                continue
            url = hf_hub_url(repository, file.name, revision=commit, endpoint=_endpoint())
            with _hub_errors(name), store.space_errors(name):
                _download(client, url, file, folder, name)


def _missing_bytes(path: Path, size: int) -> int:
    """The number of bytes of a file that are still missing."""
    incomplete = path.with_name(f"{path.name}.incomplete")
    present = next((p.stat().st_size for p in (path, incomplete) if p.exists()), 0)
    return max(size - present, 0)


def _download(client: "httpx.Client", url: str, file: RemoteFile, folder: Path, name: str) -> None:
    """Fetch one file, resuming an interrupted download; it gets its name once it is complete."""
    import httpx

    incomplete = folder / f"{file.name}.incomplete"
    for attempt in range(TRIES):
        try:
            _append(client, url, incomplete)
            break
        except (httpx.TransportError, httpx.HTTPStatusError) as error:
            final = isinstance(error, httpx.HTTPStatusError) and error.response.status_code < 500
            if final or attempt == TRIES - 1:
                raise
            time.sleep(WAIT_S * 2**attempt)
    if not _matches(incomplete, file):
        received = incomplete.stat().st_size
        incomplete.unlink()
        raise UserError(
            f"{name}: {file.name}: received {received} bytes that do not match the hub's {file.size}; run it again"
        )
    incomplete.rename(folder / file.name)


def _append(client: "httpx.Client", url: str, incomplete: Path) -> None:
    offset = incomplete.stat().st_size if incomplete.exists() else 0
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={offset}-"} if offset else {})}
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code == 416:  # it was complete already
            return
        response.raise_for_status()
        with incomplete.open("ab" if response.status_code == 206 else "wb") as out:
            # Written as it arrives, because what is buffered is lost with the connection.
            for block in response.iter_bytes():
                out.write(block)


def _matches(path: Path, file: RemoteFile) -> bool:
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
    """Turn errors of the hub and the network into one-line UserErrors."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise UserError(
            f"{name}: its owner requires a login; accept the terms, set HF_TOKEN and run it again"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{name}: the hub has no such revision; give a branch, tag or commit") from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"{name}: no folder here, and no model of that name on the hub (if it is private, set HF_TOKEN); check the name"
        ) from error
    except errors.OfflineModeIsEnabled as error:
        raise UserError(
            f"{name}: HF_HUB_OFFLINE is set, so no hub is used; unset it, or {ALTERNATIVES}"
        ) from error
    except Exception as error:
        # huggingface_hub vendors httpx, so its errors are not those of the module imported here.
        network = any(base.__name__ in ("HTTPError", "InvalidURL") for base in type(error).__mro__)
        if not network and not isinstance(error, ConnectionError | TimeoutError):
            raise
        reason = " ".join(f"{type(error).__name__} {error}".split())[:160]
        raise UserError(
            f"{name}: not in the store, and the hub cannot be reached ({reason}); run it again to resume, or {ALTERNATIVES}"
        ) from error
