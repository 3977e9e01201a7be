"""The front end: features as they are stored, to streams of time and frequency that an encoder sees as channels.

log-mels -> warp -> enhancement -> streams: `mel` (normalised log-mels), `pcen`, `envelope` (vocal tract); and of the
columns behind the log-mels, where the features hold them, `prosody` and `formants`. Each is on or off by the configuration. With `statistics: running` nothing looks ahead, and `FrontEnd.stream` gives, chunk by
chunk, the frames of the whole.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
from torch import nn

from metavox.audio.features import Extra, FeatureConfig
from metavox.recognisers.conformer.frames import frame_mask
from metavox.recognisers.conformer.frontend.enhance import Enhance, Method
from metavox.recognisers.conformer.frontend.envelope import envelope
from metavox.recognisers.conformer.frontend.extras import FormantStream, ProsodyStream
from metavox.recognisers.conformer.frontend.normalise import Normalise, State
from metavox.recognisers.conformer.frontend.pcen import Pcen
from metavox.recognisers.conformer.frontend.warp import Warp

StreamName = Literal["mel", "pcen", "envelope"] | Extra


@dataclass(frozen=True)
class FrontEndConfig:
    """Which streams there are, and what is done before them."""

    streams: tuple[StreamName, ...] = ("mel",)
    enhance: Literal["none"] | Method = "none"
    statistics: Literal["utterance", "running"] = "utterance"
    warp: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "streams", tuple(self.streams))  # JSON knows lists only
        if not self.streams or len(set(self.streams)) < len(self.streams):
            raise ValueError(
                f"streams {list(self.streams)}: expected one or more of mel, pcen, envelope, prosody, formants, each once"
            )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class FrontEnd(nn.Module):
    """Stored features (batch, time, width) to streams (batch, channels, time, bands); zero behind an item's end.

    Its parameters are few, and all of them may be moved by adaptation (`adapt --part frontend`). Raises UserError for a
    stream that the features do not hold.
    """

    def __init__(self, config: FrontEndConfig, features: FeatureConfig):
        super().__init__()
        self.config = config
        self.channels, self.bands = len(config.streams), features.mels
        self._columns = {name: features.columns(name) for name in get_args(Extra) if name in config.streams}
        running = config.statistics == "running"
        if config.warp:
            self.warp = Warp()
        if config.enhance != "none":
            self.enhance = Enhance(config.enhance, running)
        if "mel" in config.streams:
            self.normalise = Normalise(features.mels, running)
        if "pcen" in config.streams:
            self.pcen = Pcen(features.mels)
        if "envelope" in config.streams:
            self.envelope = Normalise(features.mels, running)
        if "prosody" in config.streams:
            self.prosody = ProsodyStream(features.mels, running)
        if "formants" in config.streams:
            self.formants = FormantStream(features.mels)

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Features (batch, time, width), lengths (batch,) -> (batch, channels, time, mel)."""
        return self._streams(features, frame_mask(lengths, features.shape[1]), {})[0]

    def stream(self) -> "FrontEndStream":
        """Frames as they come. Raises ValueError where the statistics are of whole utterances."""
        if self.config.statistics != "running":
            raise ValueError(
                "statistics: utterance needs the whole utterance; a stream needs statistics: running"
            )
        return FrontEndStream(self)

    def _streams(
        self, features: torch.Tensor, mask: torch.Tensor, states: dict[str, State]
    ) -> tuple[torch.Tensor, dict[str, State]]:
        mels = features[..., : self.bands]
        behind: dict[str, State] = {}
        if self.config.warp:
            mels = self.warp(mels)
        if self.config.enhance != "none":
            mels, behind["enhance"] = self.enhance(mels, mask, states.get("enhance"))
        out = []
        for name in self.config.streams:
            given = features[..., self._columns[name]] if name in self._columns else mels
            if name == "envelope":
                given = envelope(mels)
            part = self.normalise if name == "mel" else getattr(self, name)
            stream, behind[name] = part(given, mask, states.get(name))
            out.append(stream)
        return torch.stack(out, dim=1), behind


class FrontEndStream:
    """One stream of frames through a front end, with what it remembers of the past."""

    def __init__(self, frontend: FrontEnd):
        self._frontend = frontend
        self._states: dict[str, State] = {}

    def push(self, features: torch.Tensor) -> torch.Tensor:
        """The next frames (time, width) -> (channels, time, mel)."""
        if not len(features):
            return features.new_zeros(self._frontend.channels, 0, self._frontend.bands)
        mask = torch.ones(1, len(features), dtype=torch.bool, device=features.device)
        out, self._states = self._frontend._streams(features.unsqueeze(0), mask, self._states)
        return out.squeeze(0)
