"""What a layout yields: rows that want into the corpus, each with the place of its sound or why it cannot."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from metavox.errors import UserError
from metavox.quality import Fault

LAYOUTS = (
    "auto",
    "folders",
    "csv",
    "commonvoice",
    "librispeech",
    "kaldi",
    "lhotse",
    "speech-commands",
    "filename-pattern",
    "transcripts",
)


@dataclass(frozen=True)
class AddOptions:
    """What the user says of all rows; it holds where the layout itself says nothing."""

    layout: str = "auto"
    name: str = ""  # of the source; empty: the name of the folder
    speaker: str = ""
    language: str = ""
    license: str = ""
    environment: str = ""
    split: str = ""
    pattern: str = ""  # such as {speaker}_{text}_{} or {speaker}/{text}/{}
    encoding: str = ""  # of a CSV or TSV; empty: UTF-8, with or without a byte order mark
    allow_outside: bool = False  # follow links and paths that lead out of what is added


@dataclass(frozen=True)
class Place:
    """Where a sound is: a file, or `size` bytes at `offset` of a tar; all of it, or a part."""

    file: str
    offset: int | None = None
    size: int | None = None
    start_s: float | None = None
    end_s: float | None = None
    channel: int | None = None
    member: str = ""  # its name in the tar

    @property
    def name(self) -> str:
        return self.member or self.file

    @property
    def key(self) -> str:
        """The same for the same sound."""
        return f"{self.file}|{self.offset}|{self.window}"

    @property
    def window(self) -> str:
        """Which part of the file; empty for all of it."""
        if self.start_s is None and self.end_s is None and self.channel is None:
            return ""
        return f"{self.start_s or 0:.6f}-{self.end_s if self.end_s is None else f'{self.end_s:.6f}'}-{self.channel}"


@dataclass(frozen=True)
class Incoming:
    """A row as it comes; with `reasons` it is refused already."""

    path: str  # as the layout or the manifest gives it
    place: Place | None = None
    line: int | None = None  # of the manifest
    text: str = ""
    speaker: str = ""
    language: str = ""
    speaker_group: str = ""
    license: str = ""
    environment: str = ""
    split: str = ""
    unit: str = ""
    text_kind: str = ""
    synthetic: bool = False
    sha256: str = ""  # as the manifest claims
    reasons: tuple[str, ...] = ()


@dataclass
class Given:
    """What is added, and what was noticed while reading it."""

    root: Path
    options: AddOptions
    layout: str = "auto"
    pattern: str = ""  # worked out from the names, where the options say none
    ignored: int = 0  # files that are clearly no audio
    warnings: list[Fault] = field(default_factory=list)
    sweep: bool = False  # look for audio files that no row of the manifest names

    @property
    def folder(self) -> Path:
        """The folder nothing may lead out of."""
        return self.root if self.root.is_dir() else self.root.parent


class SourceFault(UserError):
    """What is given as a whole cannot be added. `name` is the kind of fault."""

    def __init__(self, name: str, explanation: str) -> None:
        super().__init__(explanation)
        self.name = name


Rows = Iterator[Incoming]
