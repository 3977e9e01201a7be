"""Short context: the clips, the targets of distillation, and training that resumes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from metavox.recognisers import registry
from metavox.recognisers.whisper.features import log_mels
from metavox.recognisers.whisper.recogniser import WhisperRecogniser
from metavox.training.short_context import (
    ShortContextConfig,
    clips,
    noise_clip,
    read_targets,
    train,
    write_targets,
)
from metavox.training.short_context.teacher import DistillationTarget
from metavox.training.short_context.training import divergence, draw, losses, padded
from tests.recognisers.whisper.conftest import MakeFolder, make_folder

__all__ = ["make_folder"]
CONFIG = ShortContextConfig(lessons=12, steps=6, rank=2, joined=0.5, noises=0.3, full=0.0)


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    random = np.random.default_rng(0)
    rows = []
    for number in range(8):
        samples = np.convolve(random.normal(size=16000 + 1600 * number), np.hanning(9), "same") * 0.05
        soundfile.write(tmp_path / f"{number}.wav", samples, 16000)
        rows.append(
            {"path": f"{number}.wav", "speaker": f"v{number % 2}", "duration_s": len(samples) / 16000}
        )
    return pd.DataFrame(rows)


@pytest.fixture
def lessons(
    table: pd.DataFrame, tmp_path: Path, make_folder: MakeFolder
) -> tuple[WhisperRecogniser, list[Path]]:
    recogniser = registry.load(make_folder())
    assert isinstance(recogniser, WhisperRecogniser)
    # The output of a random network is never confident enough to become a target; these scales make it so.
    with torch.inference_mode():
        recogniser.network.decoder.embed_tokens.weight.mul_(20.0)
        recogniser.network.decoder.embed_tokens.weight[recogniser.tokens.end] *= 3.0
    files = write_targets(
        recogniser.network, recogniser.rules, clips(table, tmp_path, CONFIG), tmp_path / "lessons"
    )
    return recogniser, files


def test_clips_are_reproducible_and_of_various_lengths(table: pd.DataFrame, tmp_path: Path) -> None:
    first, again = (list(clips(table, tmp_path, CONFIG)) for _ in range(2))
    assert len(first) == 12
    assert 0 < sum(speech for _, speech in first) < 12
    assert max(len(samples) for samples, _ in first) > 32000  # several recordings joined
    for (samples, speech), (samples_again, speech_again) in zip(first, again, strict=True):
        np.testing.assert_array_equal(samples, samples_again)
        assert speech == speech_again
    assert all(np.abs(noise_clip(np.random.default_rng(seed))).max() <= 1 for seed in range(12))


def test_the_target_of_noise_is_the_end_token(lessons: tuple[WhisperRecogniser, list[Path]]) -> None:
    recogniser, files = lessons
    tokens = recogniser.tokens
    noise_targets = [target for target in read_targets(files) if not len(target.states)]
    assert noise_targets
    for target in noise_targets:
        assert target.timed_ids.tolist() == [tokens.start, tokens.first_timestamp]
        assert target.timed_likely[:, 0].tolist() == [tokens.no_speech, tokens.end]
        assert target.plain_likely[:, 0].tolist() == [tokens.no_speech, tokens.end]
        torch.testing.assert_close(
            target.timed_log_probs.float().exp().sum(-1), torch.ones(2), atol=1e-3, rtol=0
        )


def test_training_resumes_and_returns_a_delta_for_the_base(
    lessons: tuple[WhisperRecogniser, list[Path]], tmp_path: Path
) -> None:
    recogniser, files = lessons
    targets = read_targets(files)
    assert [target.mels.shape[1] for target in targets] == sorted(target.mels.shape[1] for target in targets)
    arguments = (recogniser.network, recogniser.spec.digest, targets)
    delta, history = train(*arguments, CONFIG, tmp_path / "whole", checkpoint_every=3)
    assert len(history) == 6
    assert history["loss"].notna().all()
    view = recogniser.using([delta])
    assert view.network is not recogniser.network
    again, _ = train(*arguments, CONFIG, tmp_path / "whole")  # loads the finished run
    for name, (a, b) in delta.lora.factors.items():  # type: ignore[union-attr]
        torch.testing.assert_close(again.lora.factors[name], (a, b))  # type: ignore[union-attr]
        assert torch.isfinite(b).all()


def test_the_divergence_is_zero_to_itself_and_matches_pytorch() -> None:
    torch.manual_seed(0)
    logits, other = torch.randn(5, 8), torch.randn(5, 8)
    likely = logits.log_softmax(-1).topk(8)
    expected = torch.nn.functional.kl_div(
        other.log_softmax(-1), logits.log_softmax(-1), log_target=True, reduction="batchmean"
    )
    torch.testing.assert_close(
        divergence(other, likely.indices, likely.values), expected, atol=1e-3, rtol=1e-3
    )
    few = logits.log_softmax(-1).topk(3)
    assert abs(float(divergence(logits, few.indices, few.values))) < 1e-5


def test_a_padded_clip_has_the_log_mels_of_its_samples(table: pd.DataFrame, tmp_path: Path) -> None:
    samples, _ = soundfile.read(tmp_path / "3.wav", dtype="float32")
    whole = log_mels([samples], 64000, 80)[0]
    frames = -(-(len(samples) + 400) // 160)
    torch.testing.assert_close(padded(whole[:, :frames], 400), whole, atol=1e-5, rtol=0)


def test_a_batch_has_clips_of_similar_length_in_one_context(
    lessons: tuple[WhisperRecogniser, list[Path]],
) -> None:
    recogniser, files = lessons
    targets: list[DistillationTarget] = read_targets(files)
    batch, context = draw(targets, CONFIG, torch.Generator().manual_seed(1))
    assert context % 2 == 0
    assert context >= max(target.mels.shape[1] for target in batch)
    _, full_context = draw(targets, replace(CONFIG, full=1.0), torch.Generator().manual_seed(1))
    assert full_context == 3000
    for timed in (True, False):
        tokens, states = losses(recogniser.network, batch, 3000, timed)
        assert 0 <= float(tokens) < 1e4
        assert 0 <= float(states) < 0.01  # with the full context the student equals the base, up to rounding
