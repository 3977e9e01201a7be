"""Why a recording was taken for a word: which cells of its spectrogram spoke for the decision."""

from dataclasses import dataclass

import torch

from metavox.enrolment.prototypes import WordHead
from metavox.recognisers.conformer import Network

STEPS, AT_ONCE = 64, 16


@dataclass(frozen=True)
class Attribution:
    """`cells` (frames, mel) add up to `score` minus `baseline`, but for `error`, which more steps make smaller."""

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
    """Log-mels (frames, mel) -> what each cell added to the logit of `word` (integrated gradients, Sundararajan et al. 2017).

    What they are compared with is a steady sound of the same spectrum: the mean of each band, at every moment.
    """
    from captum.attr import IntegratedGradients

    lengths = torch.tensor([len(mels)])

    def logit(batch: torch.Tensor) -> torch.Tensor:
        return head.logits(model.embed(batch, lengths.expand(len(batch))))[:, word]

    clip = mels.clone().unsqueeze(0)
    steady = clip.mean(dim=1, keepdim=True).expand_as(clip)
    cells = IntegratedGradients(logit).attribute(clip, steady, n_steps=steps, internal_batch_size=AT_ONCE)
    with torch.no_grad():
        score, baseline = float(logit(clip)), float(logit(steady))
    return Attribution(mels, cells.squeeze(0).detach().float(), score, baseline)
