"""The front end: turns stored features into streams over time and frequency, an encoder's input channels.

log-mels -> warp -> enhancement -> streams: `mel` (normalised log-mels), `pcen`, `envelope` (vocal tract),
and, if the features hold their columns, `prosody` and `formants`. The configuration turns each on or off.
With `statistics: running` nothing looks ahead, and `FrontEnd.stream` gives the same frames chunk by chunk.
"""

from typing import get_args

import torch
from torch import nn

from metavox.config import Extra, FeatureConfig, FrontEndConfig
from metavox.recognisers.conformer.frames import frame_mask
from metavox.recognisers.conformer.frontend.enhance import Enhance
from metavox.recognisers.conformer.frontend.envelope import envelope
from metavox.recognisers.conformer.frontend.extras import FormantStream, ProsodyStream
from metavox.recognisers.conformer.frontend.normalise import Normalise, State
from metavox.recognisers.conformer.frontend.pcen import Pcen
from metavox.recognisers.conformer.frontend.warp import Warp


class FrontEnd(nn.Module):
    """Stored features (batch, time, width) to streams (batch, channels, time, bands), zero behind an item's
    end.

    It has few parameters, and adaptation can train them alone (`adapt --preset frontend`). Raises UserError
    for a stream whose columns the features do not hold.
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
        """Features (batch, time, width), lengths (batch,) -> streams (batch, channels, time, mel)."""
        return self._streams(features, frame_mask(lengths, features.shape[1]), {})[0]

    def stream(self) -> "FrontEndStream":
        """A streaming front end. Raises ValueError if the statistics are those of utterances."""
        if self.config.statistics != "running":
            raise ValueError(
                "statistics: utterance needs complete utterances; expected statistics: running for a stream"
            )
        return FrontEndStream(self)

    def _streams(
        self, features: torch.Tensor, mask: torch.Tensor, states: dict[str, State]
    ) -> tuple[torch.Tensor, dict[str, State]]:
        mels = features[..., : self.bands]
        new_states: dict[str, State] = {}
        if self.config.warp:
            mels = self.warp(mels)
        if self.config.enhance != "none":
            mels, new_states["enhance"] = self.enhance(mels, mask, states.get("enhance"))
        out = []
        for name in self.config.streams:
            inputs = features[..., self._columns[name]] if name in self._columns else mels
            if name == "envelope":
                inputs = envelope(mels)
            module = self.normalise if name == "mel" else getattr(self, name)
            stream, new_states[name] = module(inputs, mask, states.get(name))
            out.append(stream)
        return torch.stack(out, dim=1), new_states


class FrontEndStream:
    """A front end for one live stream, with its state."""

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
