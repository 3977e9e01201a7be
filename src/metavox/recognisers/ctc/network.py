"""A pretrained encoder and its CTC head, as one network that can be extended by characters."""

from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from metavox.errors import UserError
from metavox.recognisers.ctc.alphabet import Alphabet
from metavox.recognisers.delta import OutputRows
from metavox.recognisers.lora import ExtensibleNetwork

# Encoders whose padding can be masked everywhere; data2vec's stacked position convolutions leak it.
MASKED = ("wav2vec2", "hubert", "wavlm", "wav2vec2-bert")


class CtcNetwork(ExtensibleNetwork):
    """`acoustic` is the encoder of transformers; `lm_head` has one row for each id of the original alphabet.

    For an encoder without a head it has one row of zeros, the blank's, and all other characters are added
    rows.
    """

    def __init__(self, acoustic: Any, lm_head: nn.Linear, alphabet: Alphabet):
        super().__init__()
        self.acoustic, self.lm_head, self.alphabet = acoustic, lm_head, alphabet
        self.more_characters: nn.Linear | None = None

    @property
    def pads(self) -> bool:
        """Whether recordings of different lengths may share a batch without affecting each other.

        They may not if a normalisation spans time (`group`) or if padding reaches frames through unmasked
        convolutions.
        """
        config = self.acoustic.config
        return (
            config.model_type in MASKED
            and getattr(config, "feat_extract_norm", "layer") == "layer"
            and not getattr(config, "add_adapter", False)
            and not getattr(config, "conv_pos_batch_norm", False)
        )

    @property
    def hop(self) -> int:
        """Samples, or rows of log-mels, per output frame."""
        config = self.acoustic.config
        adapter = (
            config.adapter_stride**config.num_adapter_layers if getattr(config, "add_adapter", False) else 1
        )
        hop: int = adapter
        for stride in getattr(config, "conv_stride", ()):
            hop *= stride
        return hop

    def characters(self, inputs: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Samples (batch, time) or log-mels (batch, time, mel), lengths (batch,) -> log-probabilities (batch,
        frames, ids) and their lengths (batch,).
        """
        mask, equal_lengths = None, bool((lengths == inputs.shape[1]).all())
        if not equal_lengths:
            mask = (torch.arange(inputs.shape[1], device=lengths.device) < lengths[:, None]).long()
        frames = self.acoustic(inputs, attention_mask=mask).last_hidden_state
        logits = self.lm_head(frames)
        if self.more_characters is not None:
            logits = torch.cat([logits, self.more_characters(frames)], dim=2)
        if equal_lengths:
            frame_lengths = torch.full_like(lengths, frames.shape[1])
        else:
            frame_lengths = self.acoustic._get_feat_extract_output_lengths(lengths)
        return logits.float().log_softmax(dim=2), frame_lengths

    def early_states(self, inputs: torch.Tensor) -> torch.Tensor:
        """Samples (1, time) or log-mels (1, time, mel) -> states (frames, dim) after a quarter of the encoder's layers."""
        states = self.acoustic(inputs, output_hidden_states=True).hidden_states
        return states[max(1, (len(states) - 1) // 4)][0].float().cpu()  # type: ignore[no-any-return]

    def add_output_rows(self, rows: OutputRows) -> None:
        width, old = self.lm_head.in_features, self.more_characters
        if rows.weight.shape != (len(rows.alphabet), width):
            raise UserError(
                f"the delta's rows for new characters have shape {tuple(rows.weight.shape)}, "
                f"expected {(len(rows.alphabet), width)}; adapt again with this model"
            )
        self.alphabet = self.alphabet.extended(rows.alphabet)
        weight, bias = rows.weight.to(self.lm_head.weight), rows.bias.to(self.lm_head.weight)
        if old is not None:
            weight, bias = torch.cat([old.weight, weight]), torch.cat([old.bias, bias])
        more = nn.Linear(width, len(bias), device="meta")
        more.weight, more.bias = (nn.Parameter(x.detach(), requires_grad=False) for x in (weight, bias))
        self.more_characters = more.train(self.training)

    def added_rows(self) -> nn.Linear | None:
        return self.more_characters

    def initial_rows(self, characters: str) -> OutputRows:
        """Initial rows for new characters: the mean of the existing rows, a little less likely."""
        ids = [i for i, token in enumerate(self.alphabet.written[: self.lm_head.out_features]) if token]
        weight, bias = self.lm_head.weight.detach(), self.lm_head.bias.detach()
        if ids:
            weight, bias = weight[ids], bias[ids]
        count = len(characters)
        return OutputRows(characters, weight.mean(dim=0).repeat(count, 1), (bias.mean() - 1.0).repeat(count))


def freeze_encoder(acoustic: Any) -> Any:
    """Prepare the encoder in place and return it: weight normalisation merged, no dropout or masking, no
    gradients.
    """
    for module in list(acoustic.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")
    acoustic.config.apply_spec_augment, acoustic.config.layerdrop = False, 0.0
    if acoustic.config.model_type == "wavlm":
        from metavox.recognisers.ctc.wavlm import expose_projections

        expose_projections(acoustic)
    if hasattr(acoustic, "feature_extractor"):
        acoustic.feature_extractor._freeze_parameters()
    return acoustic.eval().requires_grad_(False)
