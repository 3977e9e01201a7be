"""A voice, room or language from a few transcribed recordings: some weights move, by CTC, and not far."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from metavox.audio.perturb import Perturbation, suited
from metavox.errors import UserError
from metavox.learn.adapt.characters import begin_characters, missing_characters, with_characters
from metavox.learn.adapt.estimate import Heard, fold_numbers, hear
from metavox.learn.adapt.parts import Moved, Part
from metavox.learn.joint import ctc_loss
from metavox.learn.loop import step_if_finite
from metavox.recognisers.conformer.delta import Delta
from metavox.recognisers.conformer.network import Network, pad

GENTLE = Perturbation(stretch=0.1, warp=0.05, tilt_db=3.0, noise_snr_db=(15.0, 45.0), bandlimit_chance=0.1)
NEW_CHARACTERS_RATE = 10.0  # times the rate of what the base model knows already
LOOKS = 4  # times that held-out recordings are looked at while others are learned from
FEWEST = 4  # recordings that cross-validation needs

Record = Callable[[int, float], None]


@dataclass(frozen=True)
class AdaptConfig:
    """`part`: `norms` moves normalisations, biases, the front end and the character head; `head` the last alone,
    `frontend` what is before the encoder (a delta of hundreds of bytes), `lowrank` adds products of `rank` to
    linear layers.

    `pull` towards the base model weighs the squared distance from it. With `folds` over 1 and recordings enough,
    the number of steps, `steps` at most, is chosen on held-out ones. `rates` of some weights (by name, or the
    beginning of it) stand in for `learning_rate`, as a meta-learner finds them. With `new_characters`, those
    that the model's alphabet lacks are learned too.
    """

    steps: int = 30
    learning_rate: float = 3e-3
    part: Part = "norms"
    batch: int = 16
    seed: int = 0
    pull: float = 0.0
    folds: int = 0
    rank: int = 4
    rates: Mapping[str, float] = field(default_factory=dict)
    new_characters: bool = False


@dataclass(frozen=True)
class Recordings:
    """What is learned from: log-mels (frames, mel) with their tokens."""

    mels: Sequence[torch.Tensor]
    tokens: Sequence[list[int]]

    def some(self, chosen: Sequence[int] | np.ndarray) -> "Recordings":
        return Recordings([self.mels[i] for i in chosen], [self.tokens[i] for i in chosen])


def adapt_utterances(
    model: Network, base: str, mels: Sequence[torch.Tensor], texts: Sequence[str],
    config: AdaptConfig, record: Record | None = None,
) -> Delta:  # fmt: skip
    """Log-mels (frames, mel) with their texts to a delta for the model whose digest is `base`.

    The model is left as it was. With cross-validation, `about["expected"]` says what character error rate to
    expect of new recordings. Raises UserError when no text can be written.
    """
    start, new = copy.deepcopy(model).eval(), ""  # running statistics stay the base model's
    if config.new_characters and (new := missing_characters(model, texts)):
        begin_characters(start, new)
    tokens = [start.tokenizer.encode(text) for text in texts]
    usable = [i for i, t in enumerate(tokens) if t and len(mels[i])]
    if not usable:
        raise UserError(
            f"none of {len(tokens)} texts can be written with the model's {len(model.config.alphabet)} characters; "
            "expected transcripts of the recordings"
        )
    recordings = Recordings(mels, tokens).some(usable)
    about: dict[str, object] = {"kind": "utterances", "shots": len(usable), "part": config.part}
    steps = config.steps
    if config.folds > 1 and len(usable) >= FEWEST:
        steps, about["expected"] = _chosen_steps(start, recordings, config)
    moved = Moved(start, config.part, config.rank, config.seed)
    for step, loss in _train(moved, recordings, config, steps):
        if record:
            record(step, loss)
    return with_characters(moved.delta(base, {**about, "steps": steps}), start, new)


def _train(
    moved: Moved, recordings: Recordings, config: AdaptConfig, stop: int
) -> Iterator[tuple[int, float]]:
    """Each step's number and loss, after it was taken. The rate falls towards `config.steps`, wherever it stops."""
    student = moved.student
    optimizer = torch.optim.Adam([
        {"params": [weight], "peak": _rate(name, config)} for name, weight in moved.parameters.items()
    ])  # fmt: skip
    draw = np.random.default_rng(config.seed)
    random = torch.Generator().manual_seed(config.seed)
    torch.manual_seed(config.seed)
    perturb = suited(GENTLE, student.config.features)
    count = len(recordings.mels)
    for step in range(stop):
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * (1 - step / config.steps)
        chosen = recordings.some(draw.choice(count, min(config.batch, count), replace=False))
        batch, lengths = perturb(*pad(list(chosen.mels)), random)
        characters, out_lengths = student.characters(batch, lengths)
        loss = ctc_loss(characters, out_lengths, list(chosen.tokens))
        total = loss + config.pull * moved.distance() if config.pull else loss
        yield step, step_if_finite(total, optimizer, list(moved.parameters.values()))


def _rate(name: str, config: AdaptConfig) -> float:
    if name.startswith("more_characters."):
        return config.learning_rate * NEW_CHARACTERS_RATE
    fitting = [known for known in config.rates if name.startswith(known)]
    return config.rates[max(fitting, key=len)] if fitting else config.learning_rate


def _chosen_steps(
    start: Network, recordings: Recordings, config: AdaptConfig
) -> tuple[int, dict[str, object]]:
    """How many steps served held-out recordings best, none among the choices, and what they made of them."""
    looks = sorted({round(config.steps * i / LOOKS) for i in range(LOOKS + 1)})
    number = fold_numbers(recordings.mels, config.folds)
    heard: dict[int, list[Heard]] = {look: [] for look in looks}
    for fold in range(int(number.max()) + 1):
        inside, outside = np.flatnonzero(number != fold), np.flatnonzero(number == fold)
        held_out = recordings.some(outside)
        moved = Moved(copy.deepcopy(start), config.part, config.rank, config.seed)
        heard[0].append(hear(moved.student, held_out.mels, held_out.tokens))
        for step, _ in _train(moved, recordings.some(inside), replace(config, folds=0), config.steps):
            if step + 1 in heard:
                heard[step + 1].append(hear(moved.student, held_out.mels, held_out.tokens))
    together = {look: Heard.together(parts) for look, parts in heard.items()}
    best = min(looks, key=lambda look: together[look].loss)
    return best, {
        "cer_before": together[0].rate(), "cer": together[best].rate(), "folds": int(number.max()) + 1,
    }  # fmt: skip
