"""Experiment: the contribution of each kind of augmentation, and of self-supervision with few labels.

    adverse -> the test clips in conditions that no training uses
    train   -> one arm with one seed: the accuracy of each episode in each condition
    table   -> arms against their baseline, with intervals

`experiments/dvc.yaml` runs these commands and skips arms that are finished.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from experiments.comparison import CLEAN, accuracies, arms, table
from metavox.audio.adverse import ADVERSE
from metavox.audio.features import extract, make_transform
from metavox.audio.perturb import Perturb, Perturbation, for_features
from metavox.audio.read import read_audio
from metavox.dataset.episodes import Episode, EpisodeSampler, EpisodeShape
from metavox.dataset.manifest import write_manifest
from metavox.dataset.store import ABOUT, FEATURES, MANIFEST, Store
from metavox.enrolment.prototypes import embed_mels
from metavox.errors import UserError
from metavox.files import write_json, written_aside
from metavox.params import Params
from metavox.pipeline.arms import for_inference, word_loss
from metavox.pipeline.artifacts import CHECKPOINTS, clean_store, learnable, run_key
from metavox.pipeline.held_out import test_words
from metavox.pipeline.models import initial_model
from metavox.recognisers.conformer import Network
from metavox.training.device import Precision, compute
from metavox.training.gan import load_generator
from metavox.training.joint import JointTask, Labelled, labelled
from metavox.training.loop import Training, set_rate, step_if_finite

FOLDER = Path("artifacts/ablation")
ARMS = ("none", "specaugment", "noise-reverberation", "classical", "gan", "gan-classical")
VIEWS = 4  # perturbed copies of the support clip, as in enrolment


def adverse(params: Params, root: Path) -> None:
    """The clips of the test episodes, clean and in each adverse condition -> artifacts/ablation/adverse, a store."""
    render(clean_store(root), params, root, root / FOLDER / "adverse")


def render(store: Store, params: Params, root: Path, out: Path) -> None:
    """The store's clips that test episodes use, in each condition, with the store's features -> the store `out`."""
    test = test_words(store)
    used = _used(_episodes(test.rows, params))
    transform, rate = make_transform(store.config), store.config.sample_rate_hz
    babble = _babble_speech(clean_store(root), root, params)
    rows, first = [], 0
    with written_aside(out) as folder:
        folder.mkdir(parents=True)
        with (folder / FEATURES).open("wb") as file:
            for index in used:
                row = test.rows.iloc[index]
                samples = read_audio(root / "data" / str(row["path"]), rate)
                for name in (CLEAN, *ADVERSE):
                    random = np.random.default_rng([params.seed, int(index), len(name)])
                    rendered = samples if name == CLEAN else ADVERSE[name](samples, rate, random, babble)
                    mels = (
                        extract(np.ascontiguousarray(rendered, dtype=np.float32), transform)
                        .numpy()
                        .astype("<f2")
                    )
                    file.write(mels.tobytes())
                    rows.append({**row, "environment": name, "first_frame": first, "frames": len(mels)})
                    first += len(mels)
        write_json(folder / ABOUT, asdict(store.config))
        write_manifest(pd.DataFrame(rows), folder / MANIFEST)


def train(
    params: Params,
    root: Path,
    out: Path,
    arm: str,
    seed: int,
    labels: float = 1.0,
    pretrained: bool = True,
    precision: Precision = "float32",
) -> None:
    """Train one arm and write the accuracy of each episode in each condition to the JSON file `out`.

    Raises UserError for an unknown arm.
    """
    name = f"{arm}-{seed}-{labels:g}-{pretrained}-{precision}"
    data, model = _start(params, root, seed, labels, pretrained)
    perturb = _perturbation(arm, params, root)
    model, history = train_words(params, root, model, data, perturb, name, seed, precision)
    by_condition = evaluate_words(model, clean_store(root), Store(root / FOLDER / "adverse"), params)
    result = {
        "arm": arm,
        "seed": seed,
        "labels": labels,
        "pretrained": pretrained,
        "precision": precision,
        "steps": params.ablation.steps,
        "classes": data.classes,
        "loss": round(float(history["loss"].tail(20).mean()), 4),
        "accuracies": {k: [round(float(x), 6) for x in v] for k, v in by_condition.items()},
    }
    write_json(out, result)


def train_words(
    params: Params,
    root: Path,
    model: Network,
    data: Labelled,
    perturb: Perturb,
    name: str,
    seed: int,
    precision: Precision,
) -> tuple[Network, pd.DataFrame]:
    """Train `ablation.steps` steps on words alone; return the model, prepared for inference, and the history."""
    config = params.ablation
    task = JointTask(
        model.train(),
        data,
        int(config.batch_s / params.features.hop_s),
        0.0,
        seed,
        for_features(perturb, data.store.config),
        ramp_steps=int(0.4 * config.steps),
        compute=compute(precision),
        words=word_loss(params),
    )
    groups = task.groups()
    optimizer = torch.optim.AdamW(groups, params.metatrain.learning_rate, weight_decay=0.02, fused=True)
    parameters = [parameter for group in groups for parameter in group["params"]]

    def update(step: int, random: torch.Generator) -> dict[str, float]:
        set_rate(optimizer, params.metatrain.learning_rate, step, config.steps)
        loss, record = task(step, random)
        return record | {"loss": step_if_finite(loss, optimizer, [p for p in parameters if p.requires_grad])}

    key = run_key(
        "metavox.pipeline.arms",
        params,
        ("features", "frontend", "encoder", "metatrain", "ablation"),
        root,
        ("artifacts/encoder/encoder.safetensors",),
    )
    history = Training(
        f"ablate-{name}",
        {"model": model, "classes": task.classes},
        {"optimizer": optimizer},
        update,
        config.steps,
        seed,
        root / CHECKPOINTS,
        f"{key}{name}",
        100,
    ).run()
    return for_inference(model), history


def tabulate(params: Params, root: Path) -> dict[str, pd.DataFrame]:
    """Summarise all runs in artifacts/ablation/tables/{augmentation,labels}.csv and return the tables by name.

    Arms without a baseline are omitted. Raises UserError if there are no runs.
    """
    runs = pd.DataFrame(_runs(root))
    if runs.empty:
        raise UserError(f"{FOLDER}/runs: no runs to compare; run `dvc repro experiments/dvc.yaml`")
    tables = {}
    of_labels = runs["file"].str.startswith(("labels-", "scratch-"))
    if "none" in set(runs.loc[~of_labels, "arm"]):
        tables["augmentation"] = table(_in_order(runs[~of_labels]), "none", "classical")
    few = runs[of_labels].assign(
        arm=runs["pretrained"].map({True: "self-supervised first", False: "from nothing"})
    )
    by_share = [
        table(group, "from nothing").assign(labels=share)
        for share, group in few.groupby("labels")
        if set(group["pretrained"]) == {True, False}
    ]
    if by_share:
        tables["labels"] = pd.concat(by_share).set_index("labels").reset_index()
    with written_aside(root / FOLDER / "tables") as folder:
        folder.mkdir(parents=True)
        for name, rows in tables.items():
            rows.to_csv(folder / f"{name}.csv", index=False)
    return tables


def _in_order(runs: pd.DataFrame) -> pd.DataFrame:
    order = runs["arm"].map(ARMS.index)
    return runs.assign(order=order).sort_values(["order", "seed"], kind="stable")


def _start(
    params: Params, root: Path, seed: int, labels: float, pretrained: bool
) -> tuple[Labelled, Network]:
    """The training speakers' clips of a share of the words, and an initial model; the seed determines both."""
    train = learnable(clean_store(root), "train")
    model = initial_model(params, root, train)
    data = labelled(train, model.tokenizer)
    torch.manual_seed(seed)
    fresh = Network(replace(model.config, cohort=0))
    if pretrained:
        fresh.encoder.load_state_dict(load_file(root / "artifacts/encoder/encoder.safetensors"))
    random = np.random.default_rng(seed)
    kept = np.sort(random.permutation(data.classes)[: max(2, round(labels * data.classes))])
    new_class = np.full(data.classes + 1, -1)
    new_class[kept] = np.arange(len(kept))
    return Labelled(train, new_class[data.labels], data.tokens), fresh


def _perturbation(arm: str, params: Params, root: Path) -> Perturb:
    if arm == "classical":
        return Perturbation()
    features = params.features
    known = arms(load_generator(root / params.metatrain.environment, features))
    if arm not in known:
        raise UserError(f"arm {arm}: no such arm; expected one of {', '.join(known)}")
    return known[arm]


def evaluate_words(model: Network, store: Store, rendered: Store, params: Params) -> dict[str, np.ndarray]:
    """Accuracy of each test episode of the store's words, by the condition in which their clips are `rendered`."""
    episodes = _episodes(test_words(store).rows, params)
    used = _used(episodes)
    row = np.zeros(used.max() + 1, int)  # of a clip in each condition
    row[used] = np.arange(len(used))
    drawn = [
        Episode(e.words, row[e.support], e.support_labels, row[e.query], e.query_labels) for e in episodes
    ]
    by = {str(name): rendered.where(rendered.rows["environment"] == name) for name in (CLEAN, *ADVERSE)}
    support = embed_mels(model, [by[CLEAN][i] for i in range(len(used))], VIEWS)
    queries = {
        name: support[:, 0]
        if name == CLEAN
        else embed_mels(model, [clips[i] for i in range(len(clips))])[:, 0]
        for name, clips in by.items()
    }
    return accuracies(drawn, support, queries)


def _used(episodes: list[Episode]) -> np.ndarray:
    return np.unique(np.concatenate([np.concatenate([e.support, e.query]) for e in episodes]))


def _episodes(rows: pd.DataFrame, params: Params) -> list[Episode]:
    """Cross-speaker episodes with one clip per word, the same for all arms."""
    random = np.random.default_rng(params.seed)
    sampler = EpisodeSampler(rows, EpisodeShape(params.evaluate.way, 1, 1, "cross-speaker"))
    return [sampler(random) for _ in range(params.ablation.episodes)]


def _babble_speech(store: Store, root: Path, params: Params, speakers: int = 8) -> list[np.ndarray]:
    """Speech of development speakers, as samples (time,) at the store's rate, to mix into babble."""
    rows = store.rows[(store.rows["split"] == "dev") & (store.rows["duration_s"] > 1.5)]
    clips = rows.groupby("speaker").sample(3, replace=True, random_state=params.seed).drop_duplicates("path")
    rate = store.config.sample_rate_hz
    return [read_audio(root / "data" / path, rate) for path in clips["path"].head(3 * speakers)]


def _runs(root: Path) -> Iterator[dict[str, object]]:
    for file in sorted((root / FOLDER / "runs").glob("*.json")):
        run = json.loads(file.read_text())
        for condition, values in run.pop("accuracies").items():
            yield {**run, "file": file.stem, "condition": condition, "accuracies": np.array(values)}
