"""The training loop: a killed and resumed run equals an uninterrupted one."""

import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from metavox.errors import UserError
from metavox.training.device import Compute
from metavox.training.loop import Training, set_rate, step_if_finite


def training(folder: Path, key: str = "k", steps: int = 10, fail_at: int | None = None) -> Training:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)

    def update(step: int, random: torch.Generator) -> dict[str, float]:
        if step == fail_at:
            raise KeyboardInterrupt
        set_rate(optimizer, 0.01, step, steps, warmup=3)
        x = torch.randn(16, 6, generator=random)
        loss = (model(x).squeeze(1) - x.sum(1)).square().mean()
        return {"loss": step_if_finite(loss, optimizer, list(model.parameters()))}

    return Training("tiny", {"model": model}, {"optimizer": optimizer}, update, steps, 1, folder, key, 5)


def weights(run: Training) -> dict[str, torch.Tensor]:
    return run.modules["model"].state_dict()


def test_a_killed_and_resumed_run_is_bitwise_identical(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = training(tmp_path / "whole")
    history = whole.run()
    with pytest.raises(KeyboardInterrupt):
        training(tmp_path / "killed", fail_at=7).run()
    resumed = training(tmp_path / "killed")
    again = resumed.run()
    assert "resuming from the checkpoint at step 5 of 10" in capsys.readouterr().out
    pd.testing.assert_frame_equal(history, again, check_exact=True)
    assert history["step"].tolist() == list(range(10))
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[name])
    for a, b in zip(
        whole.optimizers["optimizer"].state.values(),
        resumed.optimizers["optimizer"].state.values(),
        strict=True,
    ):
        assert all(torch.equal(a[slot], b[slot]) for slot in a)


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    first = training(tmp_path)
    history = first.run()
    again = training(tmp_path, fail_at=0)
    pd.testing.assert_frame_equal(again.run(), history)
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(first).items())


def test_a_checkpoint_with_another_key_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        training(tmp_path, key="old", fail_at=7).run()
    calls: list[int] = []
    run = training(tmp_path, key="new")
    update = run.update

    def counted_update(step: int, random: torch.Generator) -> dict[str, float]:
        calls.append(step)
        return update(step, random)

    run.update = counted_update
    run.run()
    assert calls == list(range(10))


def test_a_partially_written_checkpoint_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "tiny.partial").write_bytes(b"half")
    reference = training(tmp_path / "other")
    reference.run()
    run = training(tmp_path)
    assert len(run.run()) == 10
    assert all(torch.equal(value, weights(run)[name]) for name, value in weights(reference).items())
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["tiny.safetensors"]


@pytest.mark.parametrize("fused", [False, True])
def test_resuming_is_bitwise_identical_in_bfloat16_too(fused: bool, tmp_path: Path) -> None:
    def make(folder: Path, fail_at: int | None = None) -> Training:
        torch.manual_seed(0)
        compute = Compute(precision="bfloat16")
        model = compute.place(
            nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 3))
        )
        optimizer = torch.optim.AdamW(model.parameters(), 0.01, fused=fused)

        def update(step: int, random: torch.Generator) -> dict[str, float]:
            if step == fail_at:
                raise KeyboardInterrupt
            with compute.autocast():
                loss = (model(torch.randn(4, 3, 8, 8, generator=random)) - 1).square().mean()
            return {"loss": step_if_finite(loss, optimizer, list(model.parameters()))}

        return Training("tiny", {"model": model}, {"optimizer": optimizer}, update, 10, 1, folder, "k", 5)

    whole = make(tmp_path / "whole")
    history = whole.run()
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "killed", fail_at=7).run()
    resumed = make(tmp_path / "killed")
    pd.testing.assert_frame_equal(resumed.run(), history, check_exact=True)
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[name])
        assert value.dtype != torch.bfloat16


def with_losses(folder: Path, value: Callable[[int], float], steps: int) -> Training:
    return Training("bad", {}, {}, lambda step, _: {"loss": value(step)}, steps, 0, folder, "k", 1000)


def test_a_non_finite_loss_changes_no_weight() -> None:
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = torch.optim.Adam([weight], 0.1)
    for bad in (math.nan, math.inf):
        assert math.isnan(step_if_finite((weight * bad).sum(), optimizer, [weight]))
        assert weight.tolist() == [1.0, 2.0]
    # A finite loss with an infinite gradient.
    zero = nn.Parameter(torch.zeros(1))
    assert math.isnan(step_if_finite(zero.sqrt().sum(), torch.optim.SGD([zero], 0.1), [zero]))
    assert zero.tolist() == [0.0]
    # A loss that is not a number, with a finite gradient.
    assert math.isnan(step_if_finite(weight.sum() + math.nan, optimizer, [weight]))
    assert weight.tolist() == [1.0, 2.0]
    assert step_if_finite(weight.square().sum(), optimizer, [weight]) == 5.0
    assert weight.tolist() != [1.0, 2.0]


def test_a_few_skipped_steps_are_counted_and_many_stop_the_run(tmp_path: Path) -> None:
    few = with_losses(tmp_path / "few", lambda step: math.nan if step in (2, 5, 9) else 1.0, 20)
    assert few.run()["loss"].isna().sum() == few.skipped == 3
    many = with_losses(tmp_path / "many", lambda step: math.inf if step % 2 else 1.0, 20)
    with pytest.raises(UserError, match="4 of 8 steps had a loss that is not finite"):
        many.run()
    long = with_losses(tmp_path / "long", lambda step: math.nan if step % 25 == 0 else 1.0, 200)
    long.run()
    assert long.skipped == 8


def test_a_skipped_step_restores_running_statistics(tmp_path: Path) -> None:
    def make(folder: Path, bad_steps: set[int]) -> Training:
        run = training(folder)
        normal_update, norm = run.update, run.modules["model"][1]  # type: ignore[index]

        def update(step: int, random: torch.Generator) -> dict[str, float]:
            if step in bad_steps:
                norm(torch.full((4, 8), math.nan))
                return {"loss": math.nan}
            return normal_update(step, random)

        run.update = update
        return run

    run = make(tmp_path / "some", {2, 6})
    run.run()
    assert run.skipped == 2
    assert all(torch.isfinite(value).all() for value in weights(run).values())
    reference = make(tmp_path / "none", set())
    reference.run()
    assert weights(run)["1.num_batches_tracked"] == weights(reference)["1.num_batches_tracked"] - 2


def test_steps_skipped_before_a_restart_still_count(tmp_path: Path) -> None:
    def make() -> Training:
        run = with_losses(tmp_path, lambda step: math.nan if step < 3 else 1.0, 20)
        run.checkpoint_every = 4
        return run

    stopped = make()
    normal_update = stopped.update

    def interrupted_update(step: int, random: torch.Generator) -> dict[str, float]:
        if step == 6:
            raise KeyboardInterrupt
        return normal_update(step, random)

    stopped.update = interrupted_update
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    resumed = make()
    resumed.run()
    assert resumed.skipped == 3


def test_the_rate_rises_to_its_peak_and_falls_to_a_twentieth() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    rates = []
    for step in range(100):
        set_rate(optimizer, 2.0, step, 100, warmup=10)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == pytest.approx(2.0)
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.1, rel=0.02)
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))], "faster": 5.0})
    set_rate(optimizer, 2.0, 9, 100, warmup=10)
    assert [group["lr"] for group in optimizer.param_groups] == [2.0, 10.0]
