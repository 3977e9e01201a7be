"""Configuration of features, front end and encoder: the same classes serve params.yaml, networks and artifacts.

The annotations hold the bounds. `params.py` checks them when it reads params.yaml; `read` accepts what artifacts contain.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import ConfigDict, Field

from metavox import old_names
from metavox.errors import UserError

Extra = Literal["prosody", "formants"]
EXTRA_WIDTHS: dict[Extra, int] = {"prosody": 3, "formants": 6}  # values that an extra adds to each frame
Stream = Literal["mel", "pcen", "envelope", "prosody", "formants"]
STRICT = ConfigDict(extra="forbid")
T = TypeVar("T")


@dataclass(frozen=True)
class FeatureConfig:
    """What is stored of a recording: log-mels, or samples for an encoder with its own front end.

    A frame of kind `mel` has `mels` bands over a window of `window_s` seconds, every `hop_s` seconds; the kind `whisper`
    has the bands that Whisper's encoders expect. A frame of kind `waveform` has the samples of `hop_s` seconds. `extras` follow the log-mels in each frame, for the front-end streams
    of the same names.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    sample_rate_hz: Literal[8000, 16000] = 16000
    mels: Annotated[int, Field(ge=16, le=128, multiple_of=16)] = 64
    window_s: Annotated[float, Field(ge=0.01, le=0.064)] = 0.025
    hop_s: Annotated[float, Field(ge=0.005, le=0.02)] = 0.01
    kind: Literal["mel", "whisper", "waveform"] = "mel"
    extras: tuple[Extra, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "extras", tuple(self.extras))  # JSON has lists only
        _check_names("extras", self.extras, tuple(EXTRA_WIDTHS), least=0)
        if self.extras and self.kind != "mel":
            raise ValueError(
                f"extras = {list(self.extras)}: extras need log-mels; leave them out with kind {self.kind}"
            )

    @property
    def width(self) -> int:
        """Values in a frame."""
        if self.kind == "waveform":
            return self.hop
        return self.mels + sum(EXTRA_WIDTHS[name] for name in self.extras)

    def columns(self, extra: Extra) -> slice:
        """The columns of an extra in a frame. Raises UserError when these features lack it."""
        if extra not in self.extras:
            raise UserError(
                f"stream {extra}: the features hold {', '.join(('mel', *self.extras))}; set features.extras to "
                f"[{', '.join((*self.extras, extra))}] and run the prepare stage again"
            )
        start = self.mels + sum(EXTRA_WIDTHS[name] for name in self.extras[: self.extras.index(extra)])
        return slice(start, start + EXTRA_WIDTHS[extra])

    @property
    def without_extras(self) -> "FeatureConfig":
        return replace(self, extras=())

    @property
    def hop(self) -> int:
        """Samples from the start of one frame to the next."""
        return round(self.sample_rate_hz * self.hop_s)

    @property
    def window(self) -> int:
        """Samples in a frame's window."""
        return round(self.sample_rate_hz * self.window_s)


@dataclass(frozen=True)
class FrontEndConfig:
    """The front end between features and encoder: its input streams, enhancement, normalisation and vocal-tract warp."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    streams: tuple[Stream, ...] = ("mel",)
    enhance: Literal["none", "wiener", "subtraction"] = "none"
    statistics: Literal["utterance", "running"] = "utterance"
    warp: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "streams", tuple(self.streams))
        _check_names("streams", self.streams, ("mel", "pcen", "envelope", "prosody", "formants"), least=1)


@dataclass(frozen=True)
class EncoderConfig:
    """The kind of encoder, its dimensions, and those of the word embedding; the module of each kind says what it uses.

    `position_features` is the number of cosines of a frame's position in the word, for the pooling of the embedding.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    kind: Literal["conformer", "cnn", "recurrent", "bundle", "whisper"] = "conformer"
    bundle: str = ""  # name in torchaudio.pipelines
    overrides: dict[str, int | float | bool] = field(default_factory=dict)  # of the bundle's own parameters
    weights: str = ""  # of the bundle: a file, or `hub`; empty: random
    channels: Annotated[int, Field(ge=0, le=512)] = (
        24  # of the first convolution; with kind whisper 0 leaves them out
    )
    dim: Annotated[int, Field(ge=16, le=1024, multiple_of=4)] = 144
    layers: Annotated[int, Field(ge=1, le=24)] = 2
    heads: Annotated[int, Field(ge=1, le=16)] = 4
    kernel: Annotated[int, Field(ge=3, le=63)] = 15
    dropout: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    embedding: Annotated[int, Field(ge=16, le=1024)] = 192
    position_features: Annotated[int, Field(ge=0, le=16)] = 0

    def __post_init__(self) -> None:
        if self.kind == "conformer" and self.dim % self.heads:
            raise ValueError(f"heads = {self.heads} does not divide dim = {self.dim}")
        if self.channels < (0 if self.kind == "whisper" else 4):
            raise ValueError(f"channels = {self.channels}: expected at least 4 for kind {self.kind}")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel = {self.kernel} must be odd")


def read(kind: type[T], values: Mapping[str, Any]) -> T:
    """A configuration from an artifact's JSON, in which old names are accepted and obsolete keys are ignored."""
    known = {key.name for key in fields(kind)}  # type: ignore[arg-type]
    current = old_names.current(old_names.ARTIFACTS, values)
    return kind(**{name: value for name, value in current.items() if name in known})


def _check_names(key: str, names: tuple[str, ...], allowed: tuple[str, ...], least: int) -> None:
    if set(names) - set(allowed) or len(set(names)) < len(names) or len(names) < least:
        count = "one or more" if least else "any"
        raise ValueError(f"{key} = {list(names)}: expected {count} of {', '.join(allowed)}, each once")
