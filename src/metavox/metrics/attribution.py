"""Which cells of a spectrogram a decision for a word rests on."""

from dataclasses import dataclass

import torch

from metavox.enrolment.prototypes import WordHead
from metavox.recognisers.conformer import Network

STEPS, BATCH = 64, 16


@dataclass(frozen=True)
class Attribution:
    """Contributions `cells` (frames, mel), which add up to `score` - `baseline` + `error`.

    `error` is that of the numerical integration; more steps make it smaller.
    """

    mels: torch.Tensor
    cells: torch.Tensor
    score: float
    baseline: float

    @property
    def error(self) -> float:
        return float(self.cells.sum()) - (self.score - self.baseline)


def attribute(
    model: Network, head: WordHead, mels: torch.Tensor, word: int, steps: int = STEPS
) -> Attribution:
    """Contribution of each cell of the log-mels (frames, mel) to the logit of `word`.

    Integrated gradients (Sundararajan et al. 2017). The baseline input is a steady sound of the same spectrum: every
    frame is the clip's mean frame.
    """
    from captum.attr import IntegratedGradients

    lengths = torch.tensor([len(mels)])

    def logit(batch: torch.Tensor) -> torch.Tensor:
        return head.logits(model.embed(batch, lengths.expand(len(batch))))[:, word]

    clip = mels.clone().unsqueeze(0)
    steady = clip.mean(dim=1, keepdim=True).expand_as(clip)
    cells = IntegratedGradients(logit).attribute(clip, steady, n_steps=steps, internal_batch_size=BATCH)
    with torch.no_grad():
        score, baseline = float(logit(clip)), float(logit(steady))
    return Attribution(mels, cells.squeeze(0).detach().float(), score, baseline)
