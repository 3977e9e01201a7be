"""Experiment: meta-learners against joint training, on an equal budget.

    warm  -> a warm-up with one seed, from which all arms of that seed start
    train -> one arm on the joint arm's budget: the accuracy of each episode, by what is tuned
    table -> arms against joint training, with intervals

`experiments/dvc.yaml` runs these commands and skips arms that are finished.
"""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file

from experiments.comparison import over_seeds
from experiments.fine_tuning import tuned_accuracies
from metavox.dataset.episodes import Episode
from metavox.dataset.store import Store
from metavox.enrolment.prototypes import Method, embed_mels
from metavox.errors import UserError
from metavox.files import write_json, written_aside
from metavox.metrics.arms import VIEWS, ArmProtocol, draw_episodes
from metavox.metrics.paired import relative_error_reduction
from metavox.metrics.trials import by_episode, run_trials
from metavox.params import Params
from metavox.pipeline.arms import arm_task, for_inference, set_up, warm_up
from metavox.pipeline.artifacts import clean_store
from metavox.pipeline.dev_episodes import DevEpisodes
from metavox.pipeline.held_out import test_words
from metavox.recognisers.conformer import Network, load_model, write_model
from metavox.training.device import Precision
from metavox.training.joint import CosineClasses
from metavox.training.meta import MetaTask, Words, learner

FOLDER = Path("artifacts/ablation")
JOINT = "joint"
ARMS: dict[str, dict[str, object]] = {
    JOINT: {},
    **{name: {"learner": name} for name in ("protonet", "fomaml", "maml", "metasgd", "anil", "reptile")},
    "one-language": {
        "learner": "fomaml",
        "pairing": "cross-speaker",
        "mix_languages": False,
        "shot": 1,
        "queries": 1,
    },
    "new-words": {"learner": "fomaml", "reversed_words": 0.3},
    "curriculum": {"learner": "fomaml", "curriculum": 0.5},
}
ARM_STEPS = 200  # the demo's 80 are too few to distinguish learners
SHOTS = (1, 2, 5)
ALL, LEARNED = "all weights", "all weights, at learned rates"
METHODS: dict[str, Method] = {"class means": "prototypes", "head": "head"}
TUNED_EPISODES = 60  # in which all weights are tuned
TUNING_STEPS = 5
TUNING_RATES = (0.01, 0.05, 0.2)  # chosen on development episodes
DEV_EPISODES = 15


def warm(params: Params, root: Path, seed: int, precision: Precision) -> None:
    """Run a warm-up of the pipeline's length; write the model and its class vectors to artifacts/ablation/warm/SEED."""
    setup, model, _ = set_up(_changed(params, JOINT, seed, precision), root)
    task, _ = warm_up(model, setup, f"learners-warmup-{seed}")
    with written_aside(root / FOLDER / "warm" / str(seed)) as folder:
        write_model(for_inference(model), folder, "# A warm-up\n")
        save_file({"weight": task.classes.weight.detach().cpu().contiguous()}, folder / "classes.safetensors")


def train(params: Params, root: Path, out: Path, name: str, seed: int, precision: Precision) -> None:
    """Train and evaluate one arm; write the JSON file `out`. Raises UserError for an unknown arm."""
    if name not in ARMS:
        raise UserError(f"arm {name}: no such arm; expected one of {', '.join(ARMS)}")
    changed = _changed(params, name, seed, precision)
    setup, _, dev = set_up(changed, root)
    folder = root / FOLDER / "warm" / str(seed)
    model = load_model(folder)
    classes = CosineClasses(model.config.embedding, setup.data.classes)
    classes.load_state_dict(load_file(folder / "classes.safetensors"))
    task, steps = arm_task("joint" if name == JOINT else "meta", model, classes, setup)
    model.train(name == JOINT)
    rate = changed.metatrain.learning_rate * changed.metatrain.arm_learning_rate
    setup.train(f"learners-{name}-{seed}", model, task, steps, rate)
    own = {n: v.detach().cpu() for n, v in task.learned().items()} if isinstance(task, MetaTask) else {}
    trained, test = for_inference(model), test_words(clean_store(root))
    tasks = _episodes(test, params)
    results = _on_embeddings(trained, test, tasks)
    first, episodes = next(iter(tasks.items()))
    tuning_rate, tuned = _on_weights(trained, changed, own, dev, test, episodes[:TUNED_EPISODES])
    results |= {f"{first}: {name}": values for name, values in tuned.items()}
    write_json(
        out,
        {
            "arm": name,
            "seed": seed,
            "precision": precision,
            "steps": steps,
            "tuning_rate": tuning_rate,
            "accuracies": {key: [round(float(x), 6) for x in values] for key, values in results.items()},
        },
    )


def table(root: Path) -> pd.DataFrame:
    """Summarise all runs in artifacts/ablation/learners.csv: accuracy in %, and error reduction relative to joint training.

    Both have 95% intervals over seeds and episodes. Raises UserError if a seed has no run of joint training.
    """
    runs = [json.loads(file.read_text()) for file in sorted((root / FOLDER / "learners").glob("*.json"))]
    by = {(run["arm"], run["seed"]): run["accuracies"] for run in runs}
    missing = sorted({seed for _, seed in by} - {seed for arm, seed in by if arm == JOINT})
    if not by or missing:
        raise UserError(
            f"{FOLDER}/learners: no run of joint training, seeds {missing}; run `dvc repro experiments/dvc.yaml`"
        )
    rows = []
    for arm in (name for name in ARMS if name in {arm for arm, _ in by}):
        seeds = sorted(seed for name, seed in by if name == arm)
        for key in by[arm, seeds[0]]:
            values = [np.array(by[arm, seed][key]) for seed in seeds]
            basis = key.replace(LEARNED, ALL)
            joint = [np.array(by[JOINT, seed][basis]) for seed in seeds]
            task, tuned = key.split(": ")
            gain = "" if arm == JOINT else str(relative_error_reduction(values, joint))
            row = {
                "task": task,
                "tuned": tuned,
                "arm": arm,
                "accuracy": str(over_seeds(values)),
                "less error than joint": gain,
            }
            rows.append(row)
    summary = pd.DataFrame(rows).sort_values(["task", "tuned"], kind="stable", ignore_index=True)
    with written_aside(root / FOLDER / "learners.csv") as aside:
        summary.to_csv(aside, index=False)
    return summary


def _changed(params: Params, name: str, seed: int, precision: Precision) -> Params:
    changed = params.metatrain.model_copy(
        update={
            **ARMS[name],
            "precision": precision,
            "arm_steps": ARM_STEPS,
            "environment_share": 0.0,
        }
    )
    return params.model_copy(update={"seed": seed, "metatrain": changed})


def _episodes(test: Store, params: Params) -> dict[str, list[Episode]]:
    """The test episodes of each task with enough recordings, the same for all arms and seeds."""
    config = params.evaluate
    protocol = ArmProtocol(config.way, SHOTS, config.queries, 0, config.episodes, params.seed)
    drawn = {
        f"{pairing}, {shots}-shot": draw_episodes(test.rows, protocol, pairing, shots)
        for pairing in ("cross-speaker", "same-speaker")
        for shots in SHOTS
    }
    return {task: episodes for task, episodes in drawn.items() if episodes}


def _on_embeddings(model: Network, test: Store, tasks: dict[str, list[Episode]]) -> dict[str, np.ndarray]:
    """Accuracy of each episode, by task and method of learning from the support clips."""
    embedded = embed_mels(model, [test[i] for i in range(len(test))], VIEWS)
    return {
        f"{task}: {tuned}": by_episode(run_trials(episodes, embedded.__getitem__, method))
        for task, episodes in tasks.items()
        for tuned, method in METHODS.items()
    }


def _on_weights(
    model: Network,
    changed: Params,
    own: dict[str, torch.Tensor],
    dev: DevEpisodes,
    test: Store,
    episodes: list[Episode],
) -> tuple[float, dict[str, np.ndarray]]:
    """The best learning rate on development speakers, and the accuracy of each test episode at that rate.

    Every arm takes the same first-order steps on all weights, starting from the class means. An arm that learned rates of
    its own is also evaluated with those.
    """
    weights = {name: value.detach() for name, value in model.named_parameters()}
    fomaml = partial(learner, "fomaml", Words(model), TUNING_STEPS)
    dev_episodes = [e for e in dev.episodes if max(*e.support, *e.query) < len(dev.store)][:DEV_EPISODES]
    rates = {
        rate: tuned_accuracies(fomaml(rate), weights, dev_episodes, dev.store.__getitem__).mean()
        for rate in TUNING_RATES
    }
    best = max(rates, key=lambda rate: rates[rate])
    results = {ALL: tuned_accuracies(fomaml(best), weights, episodes, test.__getitem__)}
    if own:
        metasgd = learner(
            "metasgd", Words(model), changed.metatrain.inner_steps, changed.metatrain.inner_learning_rate
        )
        results[LEARNED] = tuned_accuracies(metasgd, {**weights, **own}, episodes, test.__getitem__)
    return best, results
