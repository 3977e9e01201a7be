"""metatrain: a joint warm-up, then joint training and a meta-learner on equal budgets; the better one is kept.

Both arms start from the same weights and pass the same number of frames forward and backward through the network,
including those of inner steps. Development speakers decide which one is packaged, never test speakers.
"""

import copy
from pathlib import Path

import pandas as pd
import torch

from metavox.dataset.store import Store
from metavox.enrolment.open_set import build_cohort
from metavox.files import written_aside
from metavox.metrics.rates import Interval
from metavox.params import Params
from metavox.pipeline.arms import arm_task, for_inference, set_up, warm_up
from metavox.pipeline.artifacts import clean_store, write_metrics, write_plot
from metavox.pipeline.foundation import add_foundation
from metavox.recognisers.conformer import Network, write_model
from metavox.threads import limit
from metavox.training.distributed import Ranks, launched
from metavox.training.meta import MetaTask
from metavox.training.meta.metasgd import save_rates


def run(params: Params, root: Path) -> None:
    """artifacts/{validated,prepared,environments,encoder} -> artifacts/recogniser, with both arms inside."""
    limit("large batches")
    with launched() as ranks:
        _metatrain(params, root, ranks)


def _metatrain(params: Params, root: Path, ranks: Ranks) -> None:
    config = params.metatrain
    setup, model, dev = set_up(params, root, ranks)
    warm, history = warm_up(model, setup)
    histories = [history]
    arms, steps, learned = {}, {}, {}
    for name in ("joint", "meta"):
        arm = copy.deepcopy(model)
        task, steps[name] = arm_task(name, arm, warm.classes, setup)
        arm.train(name == "joint")  # the meta-learner must not change running statistics
        rate = config.learning_rate * config.arm_learning_rate
        histories.append(setup.train(name, arm, task, steps[name], rate))
        arms[name] = for_inference(arm)
        learned[name] = task.learned() if isinstance(task, MetaTask) else {}
    if not ranks.first:
        return
    if config.cohort_size:
        for arm in arms.values():
            build_cohort(arm, setup.data.store, config.cohort_size, params.seed)
    scores = {name: dev.score(arm) for name, arm in arms.items()}
    best = max(scores, key=lambda name: scores[name].mean)
    about = _write(params, root, setup.data.store, arms, best, scores, learned)
    write_plot(root, "metatrain", pd.concat(histories)[["step", "arm", "loss", "ctc", "accuracy"]])
    write_metrics(
        root,
        "metatrain",
        {
            "chosen": best,
            "learner": config.learner,
            "dev_accuracy": {n: s.as_dict() for n, s in scores.items()},
            "steps": {"warmup": config.warmup_steps, **steps},
            "word_classes": setup.data.classes,
            "parameters": sum(p.numel() for p in model.parameters()),
            "foundation": about,
        },
    )


def _write(
    params: Params,
    root: Path,
    store: Store,
    arms: dict[str, Network],
    best: str,
    scores: dict[str, Interval],
    learned: dict[str, dict[str, torch.Tensor]],
) -> dict[str, object]:
    """Write the better arm, both arms and the foundation base, if any; returns the figures of that base."""
    table = "".join(f"| {name} | {score} |\n" for name, score in scores.items())
    card = (
        f"# A metavox recogniser\n\nArm: {best} training, chosen on development speakers "
        f"(one example per word, accuracy in %):\n\n| arm | accuracy |\n|---|---|\n{table}"
    )
    with written_aside(root / "artifacts/recogniser") as folder:
        write_model(arms[best], folder, card)
        save_rates(learned[best], folder)
        for name, arm in arms.items():
            write_model(arm, folder / "arms" / name, card)
            save_rates(learned[name], folder / "arms" / name)
        return add_foundation(params, root, clean_store(root), folder)
