"""Corpus profiles: the packages and sources, the splits, the synthetic words, and the digest of the result."""

import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from metavox.errors import UserError
from metavox.files import written_aside
from metavox.sources import SOURCES
from metavox.sources.synthetic.espeak import SynthesisConfig
from metavox.sources.synthetic.languages import find_language
from metavox.sources.synthetic.words import MAX_LETTERS

FOLDER = Path(__file__).parent / "profiles"


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Synthetic(_Frozen):
    """Synthetic words from CLDR, the texts of a list, or both, spoken as in `espeak.SynthesisConfig`."""

    languages: list[str] = Field(min_length=1)
    words: int = Field(default=0, ge=0)  # from CLDR, for each language
    longest: int = Field(default=MAX_LETTERS, ge=3, le=MAX_LETTERS)  # CLDR word, in characters
    texts: Path | None = None  # one text per line or language<TAB>text; relative to the profile's file
    renditions: int = Field(ge=1)  # of each word, each in another voice variant
    recorded: int = Field(
        default=0, ge=0
    )  # renditions of each word and letter that a recorded training speaker says
    rate: tuple[int, int] = SynthesisConfig.rate
    pitch: tuple[int, int] = SynthesisConfig.pitch
    pitch_range: tuple[int, int] = SynthesisConfig.pitch_range
    voices: list[str] = []
    seed: int = 1

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            for language in self.languages:
                find_language(language)
            _ = self.config
        except UserError as error:
            raise ValueError(str(error)) from error
        if not self.words and not self.texts:
            raise ValueError("nothing to say; expected words, texts or both")
        return self

    @field_validator("texts")
    @classmethod
    def _resolve_texts(cls, texts: Path | None, info: ValidationInfo) -> Path | None:
        return texts and (info.context or {}).get("folder", Path()) / texts

    @property
    def config(self) -> SynthesisConfig:
        return SynthesisConfig(
            self.rate, self.pitch, self.pitch_range, tuple(self.voices), self.renditions, self.seed
        )


class Splits(_Frozen):
    """Patterns of speaker IDs. A speaker that matches none is in train."""

    dev: list[str]
    test: list[str]

    def of(self, speaker: str) -> str:
        for split in ("dev", "test"):
            if any(fnmatchcase(speaker, pattern) for pattern in getattr(self, split)):
                return split
        return "train"


class Profile(_Frozen):
    description: str
    packages: dict[str, str]  # name -> pinned version
    sources: list[str]
    limits: dict[str, int] = {}  # source -> maximum number of different texts
    splits: Splits
    synthetic: Synthetic | None = None
    digest: str = ""  # DVC's MD5 of the built folder


def profile_path(name: str) -> Path:
    """The file of a built-in profile, or `name` itself if it is a path to a YAML file. Raises UserError for others."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.yaml")))
        raise UserError(f"profile {name}: no such profile; expected {known}, or the path of a YAML file")
    return path


def read_profile(name: str) -> Profile:
    """Read a profile. Raises UserError that names the first wrong key or unknown source."""
    path = profile_path(name)
    try:
        read = yaml.safe_load(path.read_text(encoding="utf-8"))
        profile = Profile.model_validate(read, context={"folder": path.parent})
    except yaml.YAMLError as error:
        raise UserError(f"profile {path}: not valid YAML ({str(error).splitlines()[0]})") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"profile {path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    for source in (*profile.sources, *profile.limits):
        if source not in SOURCES:
            raise UserError(f"profile {path}: source {source}: expected one of {', '.join(sorted(SOURCES))}")
    return profile


def record_digest(name: str, digest: str) -> None:
    """Write `digest` into the profile's file and leave the rest of the file unchanged."""
    path = profile_path(name)
    text = path.read_text(encoding="utf-8")
    line = f"digest: {digest}"
    changed, replacements = re.subn(r"^digest:.*$", line, text, count=1, flags=re.MULTILINE)
    with written_aside(path) as aside:
        aside.write_text(changed if replacements else f"{text.rstrip()}\n{line}\n", encoding="utf-8")
