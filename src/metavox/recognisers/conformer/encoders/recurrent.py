"""A recurrent encoder: convolutions that keep a quarter of the frames, then bidirectional GRU layers."""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from metavox.config import EncoderConfig
from metavox.recognisers.conformer.encoders.base import Encoder
from metavox.recognisers.conformer.encoders.conformer import Convolution
from metavox.recognisers.conformer.frames import frame_mask, halve
from metavox.recognisers.conformer.frontend import FrontEnd


class RecurrentEncoder(Encoder):
    """Acoustic frames come from the convolutions and a linear layer, context frames from the GRU (Cho et al.
    2014).

    It uses `channels`, `dim` and `layers`. Sequences are packed, so that the backward direction starts at an
    item's own end.
    """

    def __init__(self, config: EncoderConfig, frontend: FrontEnd):
        super().__init__()
        self.config, self.frontend = config, frontend
        self.acoustic_dim = self.dim = config.dim
        c = config.channels
        self.stem = nn.Sequential(Convolution(frontend.channels, c, (2, 2)), Convolution(c, 2 * c, (2, 2)))
        self.project = nn.Linear(2 * c * frontend.bands // 4, config.dim)
        self.recur = nn.GRU(config.dim, config.dim // 2, config.layers, batch_first=True, bidirectional=True)

    def acoustic(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.frontend(features, lengths)
        for block in self.stem:
            lengths = halve(lengths)
            x = block(x)
            x = x * frame_mask(lengths, x.shape[2])[:, None, :, None]
        x = self.project(x.transpose(1, 2).flatten(2))
        return x * frame_mask(lengths, x.shape[1]).unsqueeze(2), lengths

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, lengths = self.acoustic(features, lengths)
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        out, _ = pad_packed_sequence(self.recur(packed)[0], batch_first=True, total_length=x.shape[1])
        return out, lengths
