"""Adaptation: a few recordings of one voice, room or language to a delta on the base model."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn

from metavox.audio.perturb import Perturbation, suited
from metavox.errors import UserError
from metavox.learn.joint import ctc_loss
from metavox.learn.loop import step_if_finite
from metavox.learn.words import embed_mels, learn_words
from metavox.model.delta import Delta
from metavox.model.frontend.normalise import Normalise
from metavox.model.recogniser import Recogniser, pad

STRANGERS = 0.35  # similarity to the nearest enrolled word that other words often have; few words show less
Part = Literal["norms", "head", "frontend", "all"]
GENTLE = Perturbation(stretch=0.1, warp=0.05, tilt_db=3.0, noise_snr_db=(15.0, 45.0), bandlimit_chance=0.1)


@dataclass(frozen=True)
class AdaptConfig:
    """`part`: `norms` moves normalisations, biases, the front end and the character head; `head` the last alone,
    `frontend` what is before the encoder (a delta of hundreds of bytes)."""

    steps: int = 30
    learning_rate: float = 3e-3
    part: Part = "norms"
    batch: int = 16
    seed: int = 0


def adapt_utterances(
    model: Recogniser, base: str, mels: Sequence[torch.Tensor], texts: Sequence[str],
    config: AdaptConfig, record: Callable[[int, float], None] | None = None,
) -> Delta:  # fmt: skip
    """Log-mels (frames, mel) with their texts to a delta for the model whose digest is `base`.

    The model is left as it was. Raises UserError when no text can be written in the model's alphabet.
    """
    tokens = [model.tokenizer.encode(text) for text in texts]
    usable = [i for i, t in enumerate(tokens) if t and len(mels[i])]
    if not usable:
        raise UserError(
            f"none of {len(tokens)} texts can be written with the model's {len(model.config.alphabet)} characters; "
            "expected transcripts of the recordings"
        )
    student = copy.deepcopy(model).eval()  # running statistics stay the base model's
    names = trainable(student, config.part)
    before = {name: value.detach().clone() for name, value in student.named_parameters() if name in names}
    parameters = [value for name, value in student.named_parameters() if name in names]
    for name, weight in student.named_parameters():
        weight.requires_grad_(name in names)
    optimizer = torch.optim.Adam(parameters, config.learning_rate)
    draw = np.random.default_rng(config.seed)
    random = torch.Generator().manual_seed(config.seed)
    torch.manual_seed(config.seed)
    perturb = suited(GENTLE, model.config.features)
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * (1 - step / config.steps)
        chosen = draw.choice(usable, min(config.batch, len(usable)), replace=False)
        batch, lengths = perturb(*pad([mels[i] for i in chosen]), random)
        characters, out_lengths = student.characters(batch, lengths)
        loss = ctc_loss(characters, out_lengths, [tokens[i] for i in chosen])
        value = step_if_finite(loss, optimizer, parameters)
        if record:
            record(step, value)
    after = dict(student.named_parameters())
    return Delta(
        base,
        {name: (after[name].detach() - before[name]) for name in sorted(names)},
        about={"kind": "utterances", "shots": len(usable), "steps": config.steps, "part": config.part},
    )


def enrol_words(
    model: Recogniser, base: str, mels: Sequence[torch.Tensor], labels: Sequence[str], views: int = 4
) -> Delta:
    """Labelled clips (frames, mel) to a delta that holds one prototype a word and a rejection threshold.

    Raises UserError when there is no clip.
    """
    words = tuple(sorted(set(labels)))
    if not words:
        raise UserError("no labelled clip to enrol; expected at least one recording of each word")
    codes = torch.tensor([words.index(label) for label in labels])
    embedded = embed_mels(model, list(mels), views)
    head = learn_words(embedded, codes, len(words), "head" if len(words) > 1 else "prototypes")
    weight = nn.functional.normalize(head.weight, dim=1)
    return Delta(
        base, words=words, prototypes=weight, threshold=_threshold(embedded[:, 0], weight, codes),
        about={"kind": "words", "shots": len(labels)},
    )  # fmt: skip


def _threshold(embedded: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> float:
    """Embeddings (clips, embedding), word vectors (words, embedding): the similarity that a clip needs to be a word.

    Halfway between clips of different words and clips of one word. Where no word has two clips, nearness to the
    vector that a clip made by itself says nothing: then, nearer than most different words are. The clips
    themselves always pass.
    """
    similarity = embedded @ weight.T
    own = float(similarity.gather(1, labels[:, None]).min())
    apart = float(similarity.scatter(1, labels[:, None], -1.0).amax(dim=1).quantile(0.9))
    if len(labels) == len(weight):
        return min(max(apart, STRANGERS), own)
    if len(weight) == 1:
        return own - 0.25
    return (own + apart) / 2 if own > apart else own


def trainable(model: Recogniser, part: Part) -> set[str]:
    """Names of the weights that adaptation may move."""
    names = {name for name, _ in model.named_parameters() if not name.startswith("word.")}
    if part == "all":
        return names
    if part == "head":
        return {name for name in names if name.startswith("ctc.")}
    if part == "frontend":
        return {name for name in names if name.startswith("encoder.frontend.")}
    norms = {
        f"{path}.{name}"
        for path, module in model.named_modules()
        if isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.BatchNorm2d | Normalise)
        for name, _ in module.named_parameters(recurse=False)
    }
    return names & {n for n in names if n in norms or n.endswith("bias") or n.startswith("ctc.")}
