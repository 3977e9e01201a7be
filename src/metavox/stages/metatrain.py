"""metatrain: a joint warm-up, then joint training and a meta-learner on equal budgets; the better one stays.

Both arms start from the same weights and pass the same number of frames through the network and back, those of inner
steps counted. Which one is packaged is decided on development voices, never on test voices.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from metavox.audio.features import FeatureConfig
from metavox.audio.perturb import Perturb, Perturbation, suited
from metavox.corpus.episodes import Episode, EpisodeSampler, EpisodeShape
from metavox.corpus.store import Store
from metavox.errors import UserError
from metavox.evaluate.figures import score_episodes
from metavox.evaluate.metrics import Interval
from metavox.files import written_aside
from metavox.learn.device import Compute, compute
from metavox.learn.gan import Environments, load_generator
from metavox.learn.joint import (
    LONGEST_WORD,
    CosineClasses,
    JointTask,
    Labelled,
    WordLoss,
    has_words,
    labelled,
)
from metavox.learn.loop import Training, set_rate, step_if_finite
from metavox.learn.meta import MetaTask
from metavox.learn.meta.metasgd import save_rates
from metavox.learn.openset import background_bank
from metavox.learn.words import embed_mels
from metavox.params import Params
from metavox.recognisers import registry
from metavox.recognisers.bases.find import find_base
from metavox.recognisers.conformer.artifact import load_model, write_model
from metavox.recognisers.conformer.network import ModelConfig, Network
from metavox.recognisers.conformer.tokenizer import Tokenizer
from metavox.stages.common import CHECKPOINTS, clean_store, learnable, run_key, write_metrics, write_plot
from metavox.stages.foundation import add_foundation
from metavox.stages.meta_arm import meta_arm
from metavox.stages.pretrain import encoder_config, frontend_config
from metavox.text import normalise_text
from metavox.threads import limit

SECTIONS = ("features", "frontend", "encoder", "metatrain")
INPUTS = ("artifacts/validated/manifest.parquet", "artifacts/encoder/encoder.safetensors")


@dataclass
class Setting:
    """What every arm shares."""

    params: Params
    root: Path
    data: Labelled
    perturb: Perturb
    key: str
    compute: Compute
    watch: Callable[[int, int], None] | None = (
        None  # called before each step, with the step and how many there are
    )

    def train(
        self, name: str, model: Network, task: JointTask | MetaTask, steps: int, rate: float
    ) -> pd.DataFrame:
        """`steps` of `task` from where `model` stands; the history with a column that names the arm."""
        groups = task.groups()
        optimizer = torch.optim.AdamW(groups, rate, weight_decay=0.02, fused=True)
        parameters = [parameter for group in groups for parameter in group["params"]]

        def update(step: int, random: torch.Generator) -> dict[str, float]:
            if self.watch:
                self.watch(step, steps)
            set_rate(optimizer, rate, step, steps, warmup=max(1, min(50, steps // 4)))
            loss, record = task(step, random)
            return (
                record if np.isfinite(step_if_finite(loss, optimizer, parameters)) else {"loss": float("nan")}
            )

        modules = {"model": model, "classes": task.classes}
        if isinstance(task, MetaTask):
            modules["own"] = task.own
        return (
            Training(
                f"metatrain-{name}",
                modules,
                {"optimizer": optimizer},
                update,
                steps,
                self.params.seed,
                self.root / CHECKPOINTS,
                self.key,
                self.params.metatrain.checkpoint_every,
            )
            .run()
            .assign(arm=name)
        )


def run(params: Params, root: Path) -> None:
    """artifacts/{validated,prepared,environments,encoder} -> artifacts/recogniser, with both arms inside."""
    chosen = params.metatrain
    limit("large batches")
    setting, model, dev = begin(params, root)
    warm, history = warm_up(model, setting)
    histories = [history]
    arms, steps, own = {}, {}, {}
    for name in ("joint", "meta"):
        arm = copy.deepcopy(model)
        task, steps[name] = arm_task(name, arm, warm.classes, setting)
        arm.train(name == "joint")  # the meta-learner leaves running statistics as they are
        rate = chosen.learning_rate * chosen.arm_learning_rate
        histories.append(setting.train(name, arm, task, steps[name], rate))
        arms[name] = settled(arm)
        if chosen.bank:
            background_bank(arms[name], setting.data.store, chosen.bank, params.seed)
        own[name] = task.learned() if isinstance(task, MetaTask) else {}
    scores = {name: dev.score(arm) for name, arm in arms.items()}
    best = max(scores, key=lambda name: scores[name].mean)
    about = _write(params, root, setting.data.store, arms, best, scores, own)
    write_plot(root, "metatrain", pd.concat(histories)[["step", "arm", "loss", "ctc", "accuracy"]])
    write_metrics(
        root,
        "metatrain",
        {
            "chosen": best,
            "learner": chosen.learner,
            "dev_accuracy": {n: s.as_dict() for n, s in scores.items()},
            "steps": {"warmup": chosen.warmup_steps, **steps},
            "word_classes": setting.data.classes,
            "parameters": sum(p.numel() for p in model.parameters()),
            "foundation": about,
        },
    )


def begin(params: Params, root: Path) -> tuple[Setting, Network, "DevEpisodes"]:
    """The data, a model that has learned nothing here yet, and what arms are judged by."""
    store = clean_store(root)
    dev = dev_episodes(store, params)
    train = learnable(store, "train")
    train = train.where(~train.rows["path"].isin(dev.paths))
    model = initial_model(params, root, train)
    perturb = perturbation(params, root)
    data = labelled(train, model.tokenizer)
    where = compute(params.metatrain.precision)
    return Setting(params, root, data, perturb, training_key(params, root), where), model, dev


def training_key(params: Params, root: Path) -> str:
    """What all training here depends on."""
    start = start_folder(params)
    return run_key(
        __name__,
        params,
        SECTIONS,
        root,
        (*INPUTS, *_environment(params), *([str((start / "model.safetensors").absolute())] if start else [])),
    )


def warm_up(model: Network, setting: Setting, name: str = "warmup") -> tuple[JointTask, pd.DataFrame]:
    """Joint training that all arms begin from: the task with its word classes, and the history."""
    params, chosen = setting.params, setting.params.metatrain
    task = JointTask(
        model,
        setting.data,
        _frames(params),
        chosen.utterance_share,
        params.seed,
        setting.perturb,
        ramp_steps=int(0.4 * chosen.warmup_steps),
        compute=setting.compute,
        words=word_loss(params),
    )
    return task, setting.train(name, model.train(), task, chosen.warmup_steps, chosen.learning_rate)


def initial_model(params: Params, root: Path, train: Store) -> Network:
    """A recogniser with the alphabet of the training texts: the one that `metatrain.start` names, or else the pretrained
    encoder."""
    torch.manual_seed(params.seed)
    model = Network(model_config(params, train))
    if start := start_folder(params):
        try:
            model.begin_from(load_model(start))
        except UserError as error:
            raise UserError(f"metatrain.start {params.metatrain.start}: {error}") from error
    else:
        model.encoder.load_state_dict(load_file(root / "artifacts/encoder/encoder.safetensors"))
    return model


def start_folder(params: Params) -> Path | None:
    """Where the recogniser lies that `metatrain.start` names. Raises UserError for a base of another kind."""
    if not params.metatrain.start:
        return None
    base = find_base(params.metatrain.start)
    if registry.kind_of(base.folder) != "conformer":
        raise UserError(
            f"metatrain.start {params.metatrain.start}: expected a base of the kind conformer, such as `conformer`"
        )
    return base.folder


def model_config(params: Params, train: Store) -> ModelConfig:
    """What the parameters and the training texts make of a model."""
    spelled = has_words(train.rows) & (~train.rows["synthetic"] | (train.rows["unit"] != "word"))
    alphabet = Tokenizer.of(train.rows.loc[spelled, "text"]).alphabet
    return ModelConfig(
        train.config,
        encoder_config(params),
        params.encoder.embedding,
        alphabet,
        frontend_config(params),
        params.encoder.places,
    )


def word_loss(params: Params) -> WordLoss:
    chosen = params.metatrain
    longest = round(chosen.longest_word_s * 1000 / params.features.hop_ms)
    return WordLoss(chosen.softmax, chosen.pairs, chosen.recorded, longest)


def perturbation(params: Params, root: Path) -> Perturb:
    """Random channels and, for a share of the clips, an environment that the GAN learned."""
    features, chosen = FeatureConfig(**params.features.model_dump()), params.metatrain
    if chosen.environment_share == 0:
        return suited(Perturbation(), features)
    generator = load_generator(root / chosen.environment, features)
    return suited(Environments(generator, chosen.environment_share, Perturbation()), features)


def _environment(params: Params) -> tuple[str, ...]:
    """What of an environment a run depends on: where none is asked for, nothing."""
    chosen = params.metatrain
    used = chosen.environment_share > 0 or chosen.room == "generated"
    return (f"{chosen.environment}/generator.safetensors",) if used else ()


def settled(model: Network) -> Network:
    """The same model for use on a CPU, out of training."""
    return model.eval().to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload,no-any-return]


def arm_task(
    name: str, model: Network, classes: CosineClasses, setting: Setting
) -> tuple[JointTask | MetaTask, int]:
    """What the arm learns from where the warm-up ended, and its steps: as many as the joint arm's budget pays for."""
    chosen, params = setting.params.metatrain, setting.params
    # A meta-learner keeps by joint training what its tasks are not of.
    of_words = name == "meta" and chosen.kind == "utterances"
    frames, share = _frames(params), chosen.utterance_share
    joint = JointTask(
        model,
        setting.data,
        int(frames * (1 - share)) if of_words else frames,
        0.0 if of_words else share,
        params.seed + 1,
        setting.perturb,
        classes=copy.deepcopy(classes),
        compute=setting.compute,
        words=word_loss(params),
    )
    if name == "joint":
        return joint, chosen.arm_steps
    return meta_arm(joint, params, setting.root, frames, kept=frames * ((1 - share) if of_words else share))


@dataclass(frozen=True)
class DevEpisodes:
    """One-shot episodes on development voices, of words that nobody trains on.

    Row i of the store is clip i; where the voices share no words, row n + i is clip i through another channel.
    """

    store: Store
    episodes: list[Episode]

    @property
    def paths(self) -> set[str]:
        return set(self.store.rows["path"])

    def score(self, model: Network) -> Interval:
        views = embed_mels(model, [self.store[i] for i in range(len(self.store))], views=1)
        embedded = torch.cat([views[:, :1], views[:, 1:]])
        return score_episodes(self.episodes, lambda rows: embedded[rows], "prototypes").accuracy


def dev_episodes(store: Store, params: Params, episodes: int = 300) -> DevEpisodes:
    """Words that a development voice shares with another voice of its language, taught by that one.

    Without such words, a development voice's clips are asked about through another channel.
    Raises UserError when there are no words of a development voice at all.
    """
    rows = store.rows
    recorded = (
        rows["unit"].isin(("word", "letter"))
        & (rows["text_kind"] == "spoken")
        & ~rows["synthetic"]
        & rows["frames"].between(1, LONGEST_WORD)
    )
    key = rows["language"] + ":" + rows["text"].map(normalise_text)
    of_dev = recorded & (rows["split"] == "dev")
    shared = recorded & rows["split"].isin(("train", "dev")) & key.isin(set(key[of_dev]))
    chosen = store.where(shared)
    clips = chosen.rows.assign(text=chosen.rows["text"].map(normalise_text))
    found = _draw(clips, frozenset(rows.loc[of_dev, "voice"]), params.seed, episodes)
    if not found:
        chosen = store.where(of_dev)
        clips = pd.concat(
            [
                chosen.rows.assign(text=chosen.rows["path"], voice=channel)
                for channel in ("recorded", "another")
            ]
        )
        found = _draw(clips, frozenset(["another"]), params.seed, episodes)
    if not found:
        raise UserError(
            f"split dev holds {int(of_dev.sum())} recorded words, too few to choose between joint and meta-training; "
            "expected a development voice with at least two words"
        )
    return DevEpisodes(chosen, found)


def _draw(clips: pd.DataFrame, voices: frozenset[str], seed: int, episodes: int) -> list[Episode]:
    random = np.random.default_rng(seed)
    for way in (10, 5, 3, 2):
        try:
            sampler = EpisodeSampler(clips, EpisodeShape(way, 1, 1, "cross-voice"), query_voices=voices)
        except UserError:
            continue
        return [sampler(random) for _ in range(episodes)]
    return []


def _frames(params: Params) -> int:
    return int(params.metatrain.batch_s * 1000 / params.features.hop_ms)


def _write(
    params: Params,
    root: Path,
    store: Store,
    arms: dict[str, Network],
    best: str,
    scores: dict[str, Interval],
    own: dict[str, dict[str, torch.Tensor]],
) -> dict[str, object]:
    """The artifact: the better arm, both arms, and the foundation base where one is asked for; what there is to say of
    that."""
    table = "".join(f"| {name} | {score} |\n" for name, score in scores.items())
    card = (
        f"# A metavox recogniser\n\nArm: {best} training, chosen on development voices "
        f"(one example a word, accuracy in %):\n\n| arm | accuracy |\n|---|---|\n{table}"
    )
    with written_aside(root / "artifacts/recogniser") as folder:
        write_model(arms[best], folder, card)
        save_rates(own[best], folder)
        for name, arm in arms.items():
            write_model(arm, folder / "arms" / name, card)
            save_rates(own[name], folder / "arms" / name)
        return add_foundation(params, root, clean_store(root), folder)
