"""What a layout yields: candidate rows for the corpus, each with its audio or the reasons why it is refused."""

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
    """The user's values for all rows; each applies only where the layout itself gives none."""

    layout: str = "auto"
    name: str = ""  # of the source; empty: the name of the folder
    speaker: str = ""
    language: str = ""
    license: str = ""
    environment: str = ""
    split: str = ""
    pattern: str = ""  # such as {speaker}_{text}_{} or {speaker}/{text}/{}
    encoding: str = ""  # of a CSV or TSV; empty: detected
    allow_outside: bool = False  # follow links and paths that lead out of the source


@dataclass(frozen=True)
class AudioLocation:
    """Where the audio is: a file, or `size` bytes at `offset` of a tar; all of it, or a segment of one channel."""

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
        """Equal for equal audio."""
        return f"{self.file}|{self.offset}|{self.segment}"

    @property
    def segment(self) -> str:
        """The times and the channel as text; empty for the whole file."""
        if self.start_s is None and self.end_s is None and self.channel is None:
            return ""
        return f"{self.start_s or 0:.6f}-{self.end_s if self.end_s is None else f'{self.end_s:.6f}'}-{self.channel}"


@dataclass(frozen=True)
class Incoming:
    """A candidate row for the corpus. A row with `reasons` is refused already."""

    path: str  # as the layout or the manifest gives it
    location: AudioLocation | None = None
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
class ReadContext:
    """The source being read, and what reading it has brought up so far."""

    root: Path
    options: AddOptions
    layout: str = "auto"
    pattern: str = ""  # inferred from the names when the options give none
    ignored: int = 0  # files that are clearly not audio
    warnings: list[Fault] = field(default_factory=list)
    find_unlisted: bool = False  # also look for audio files that no row refers to

    @property
    def folder(self) -> Path:
        """The folder that no path may lead out of."""
        return self.root if self.root.is_dir() else self.root.parent


class SourceFault(UserError):
    """The source as a whole cannot be added. `name` is the kind of fault."""

    def __init__(self, name: str, explanation: str) -> None:
        super().__init__(explanation)
        self.name = name


Rows = Iterator[Incoming]
