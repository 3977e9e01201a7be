"""The configuration of features, front end and encoder: one class a concept, for params.yaml, networks and artifacts alike.

Bounds stand in the annotations. `params.py` checks them when it reads params.yaml; `read` takes what an artifact holds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import ConfigDict, Field

from metavox import old_names
from metavox.errors import UserError

Extra = Literal["prosody", "formants"]
EXTRA_WIDTHS: dict[Extra, int] = {"prosody": 3, "formants": 6}  # numbers that an extra adds to a frame
Stream = Literal["mel", "pcen", "envelope", "prosody", "formants"]
STRICT = ConfigDict(extra="forbid")
T = TypeVar("T")


@dataclass(frozen=True)
class FeatureConfig:
    """What is stored of a recording: log-mels, or the samples for an encoder that has a front end of its own.

    A frame holds `mels` bands over `window_s` seconds and comes every `hop_s`; of kind `waveform`, it holds the samples
    of `hop_s`. `extras` follow the log-mels in each frame, for the streams of the same name.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    sample_rate_hz: Literal[8000, 16000] = 16000
    mels: Annotated[int, Field(ge=16, le=128, multiple_of=16)] = 64
    window_s: Annotated[float, Field(ge=0.01, le=0.064)] = 0.025
    hop_s: Annotated[float, Field(ge=0.005, le=0.02)] = 0.01
    kind: Literal["mel", "waveform"] = "mel"
    extras: tuple[Extra, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "extras", tuple(self.extras))  # JSON knows lists only
        _each_once("extras", self.extras, tuple(EXTRA_WIDTHS), least=0)
        if self.extras and self.kind != "mel":
            raise ValueError(
                f"extras = {list(self.extras)}: they stand beside log-mels; leave them out with kind {self.kind}"
            )

    @property
    def width(self) -> int:
        """Numbers in a frame."""
        if self.kind == "waveform":
            return self.hop
        return self.mels + sum(EXTRA_WIDTHS[name] for name in self.extras)

    def columns(self, extra: Extra) -> slice:
        """Where an extra is in a frame. Raises UserError when these features do not hold it."""
        if extra not in self.extras:
            raise UserError(
                f"stream {extra}: the features hold {', '.join(('mel', *self.extras))}; set features.extras to "
                f"[{', '.join((*self.extras, extra))}] and prepare again"
            )
        start = self.mels + sum(EXTRA_WIDTHS[name] for name in self.extras[: self.extras.index(extra)])
        return slice(start, start + EXTRA_WIDTHS[extra])

    @property
    def without_extras(self) -> "FeatureConfig":
        return replace(self, extras=())

    @property
    def hop(self) -> int:
        """Samples between the starts of frames."""
        return round(self.sample_rate_hz * self.hop_s)

    @property
    def window(self) -> int:
        """Samples in a frame's window."""
        return round(self.sample_rate_hz * self.window_s)


@dataclass(frozen=True)
class FrontEndConfig:
    """What is made of the features before the encoder sees them: its streams, and what is done before them."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    streams: tuple[Stream, ...] = ("mel",)
    enhance: Literal["none", "wiener", "subtraction"] = "none"
    statistics: Literal["utterance", "running"] = "utterance"
    warp: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "streams", tuple(self.streams))
        _each_once("streams", self.streams, ("mel", "pcen", "envelope", "prosody", "formants"), least=1)


@dataclass(frozen=True)
class EncoderConfig:
    """Which encoder, its dimensions, and those of the word embedding behind it. Each kind's module says what it uses.

    `position_features` are cosines of where in the word a frame lies, for the pooling of words.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    kind: Literal["conformer", "cnn", "recurrent", "bundle"] = "conformer"
    bundle: str = ""  # a name in torchaudio.pipelines
    overrides: dict[str, int | float | bool] = field(default_factory=dict)  # of the bundle's own parameters
    weights: str = ""  # of the bundle: a file, or `hub`; empty begins from random ones
    channels: Annotated[int, Field(ge=4, le=512)] = 24
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
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel = {self.kernel} must be odd")


def read(kind: type[T], values: Mapping[str, Any]) -> T:
    """A configuration from an artifact's JSON, old names included; keys that mean nothing any more are left out."""
    known = {one.name for one in fields(kind)}  # type: ignore[arg-type]
    now = old_names.current(old_names.ARTIFACTS, values)
    return kind(**{name: value for name, value in now.items() if name in known})


def _each_once(name: str, given: tuple[str, ...], allowed: tuple[str, ...], least: int) -> None:
    if set(given) - set(allowed) or len(set(given)) < len(given) or len(given) < least:
        wanted = "one or more" if least else "some"
        raise ValueError(f"{name} = {list(given)}: expected {wanted} of {', '.join(allowed)}, each once")
