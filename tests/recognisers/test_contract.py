"""Contract tests of every kind of recogniser: its spec, transcription, batching and threads; see `contract`."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from metavox.errors import UserError
from metavox.recognisers import registry
from metavox.recognisers.recogniser import PRESETS, DecodeOptions, Recogniser, WordEmbedder
from metavox.recognisers.transcript import Transcript
from tests.recognisers.contract import (
    CLIPS,
    KINDS,
    RATE,
    TEXTS,
    Kind,
    is_unchanged,
    learned_delta,
    loss_of,
    random_delta,
    speech,
    state,
)

TIMED = DecodeOptions(word_times=True)


# The spec


def test_the_spec_describes_the_base(base: Recogniser, kind: Kind, folder: Path) -> None:
    spec = base.spec
    assert (spec.kind, spec.name, spec.digest) == (kind.kind, "small", registry.digest(folder))
    assert registry.kind_of(folder) == kind.kind
    assert spec.sample_rate_hz > 0
    assert spec.longest_s > 0
    assert set(spec.presets) <= set(PRESETS)
    assert len(set(spec.presets)) == len(spec.presets) > 0
    assert all(len(code) == 2 for code in spec.languages)
    assert not any(module.training for module in base.network.modules())
    again = registry.load(folder, "small")
    assert again.spec == spec
    assert is_unchanged(again, state(base))


@pytest.mark.parametrize("recordings", [1, 5, 20, 200, 5000])
def test_recipes_use_supported_presets_and_the_default_first(base: Recogniser, recordings: int) -> None:
    recipes = base.recipes(recordings)
    assert recipes[0].preset == base.spec.presets[0]
    assert {recipe.preset for recipe in recipes} <= set(base.spec.presets)
    assert len(set(recipes)) == len(recipes)
    assert all(r.steps > 0 and r.batch > 0 and r.learning_rate > 0 for r in recipes)


def test_adapter_targets_are_weights_of_the_network(base: Recogniser) -> None:
    weights = dict(base.network.named_parameters())
    everything = set(base.adapter_targets("all")) if "all" in base.spec.presets else set(weights)
    for preset in base.spec.presets:
        targets = base.adapter_targets(preset)
        assert len(set(targets)) == len(targets) > 0
        assert set(targets) <= set(weights)
        assert set(targets) <= everything, "`all` includes every other preset"
        if preset.startswith("lora"):
            layers = [base.network.get_submodule(name.removesuffix(".weight")) for name in targets]
            assert all(isinstance(layer, nn.Linear) for layer in layers)
    sides = [set(base.adapter_targets(p)) for p in ("lora-encoder", "lora-decoder") if p in base.spec.presets]
    assert all(side <= set(base.adapter_targets("lora")) for side in sides)
    if len(sides) == 2:
        assert not sides[0] & sides[1]


def test_unsupported_presets_are_a_one_line_error(base: Recogniser) -> None:
    for preset in {*PRESETS, "nonsense", ""} - set(base.spec.presets):
        with pytest.raises(UserError, match="expected one of") as caught:
            base.adapter_targets(preset)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
        with pytest.raises(UserError, match="expected one of"):
            learned_delta(base, KINDS["ctc"], preset, 1)  # type: ignore[arg-type]


# Transcription


def assert_consistent(transcript: Transcript, seconds: float) -> None:
    assert transcript.duration_s == pytest.approx(seconds, abs=1e-6)
    end = transcript.duration_s + 1e-6
    starts = [segment.start_s for segment in transcript.segments]
    assert starts == sorted(starts)
    for segment in transcript.segments:
        assert 0 <= segment.start_s <= segment.end_s <= end
        assert 0 <= segment.confidence <= 1
        assert segment.text == segment.text.strip()
        times = [w.start_s for w in segment.words]
        assert times == sorted(times)
        for word in segment.words:
            assert segment.start_s - 1e-6 <= word.start_s <= word.end_s <= segment.end_s + 1e-6
            assert 0 <= word.confidence <= 1


@pytest.mark.parametrize(
    "options", [DecodeOptions(), TIMED, DecodeOptions(context="full")], ids=["plain", "timed", "full"]
)
def test_recordings_of_any_length_give_one_transcript_each(base: Recogniser, options: DecodeOptions) -> None:
    seconds = [0.0, 1 / RATE, 0.01, 0.1, 0.5, base.spec.longest_s, 1.5 * base.spec.longest_s]
    audio = [speech(length, seed)[: round(length * RATE)] for seed, length in enumerate(seconds)]
    audio[1] = np.ones(1, np.float32)
    view = base.using([random_delta(base)])
    transcripts = view.transcribe(audio, options)
    assert len(transcripts) == len(audio)
    for transcript, samples in zip(transcripts, audio, strict=True):
        assert_consistent(transcript, len(samples) / RATE)
    assert transcripts[-1].text, "a random network writes something for a recording of this length"
    if options.word_times:
        for segment in transcripts[-1].segments:
            assert " ".join(w.text for w in segment.words).split() == segment.text.split()
    assert view.transcribe([], options) == []


def test_silence_gives_no_segments_or_empty_ones(base: Recogniser, kind: Kind) -> None:
    for seconds in (0.2, 1.0, 1.3 * base.spec.longest_s):
        (transcript,) = base.transcribe([np.zeros(round(seconds * RATE), np.float32)])
        assert_consistent(transcript, round(seconds * RATE) / RATE)
        assert not kind.silent_on_silence or transcript.text == ""


def test_batching_does_not_change_results(base: Recogniser) -> None:
    view = base.using([random_delta(base)])
    audio = [
        *CLIPS,
        speech(0.3, 7),
        CLIPS[0][:9000],
        np.zeros(0, np.float32),
        speech(base.spec.longest_s + 1, 8),
    ]
    batched = view.transcribe(audio)
    assert [t.text for t in batched] == [view.transcribe([samples])[0].text for samples in audio]
    assert [t.text for t in view.transcribe(audio[::-1])] == [t.text for t in batched][::-1]
    scores = view.text_log_probs(CLIPS, TEXTS)
    for row, clip in zip(scores, CLIPS, strict=True):
        torch.testing.assert_close(row, view.text_log_probs([clip], TEXTS)[0], atol=1e-3, rtol=1e-3)
    for column, text in zip(scores.T, TEXTS, strict=True):
        torch.testing.assert_close(column, view.text_log_probs(CLIPS, [text])[:, 0], atol=1e-3, rtol=1e-3)


def test_prepared_and_encoded_audio_give_the_results_of_samples(base: Recogniser) -> None:
    view = base.using([random_delta(base)])
    prepared, encoded = view.prepare(CLIPS), view.encode(CLIPS)
    mixed = [prepared[0], encoded[1], CLIPS[2]]
    texts = [t.text for t in view.transcribe(CLIPS)]
    scores, loss = view.text_log_probs(CLIPS, TEXTS), loss_of(view, CLIPS, TEXTS)
    for audio in (prepared, encoded, mixed, view.encode(prepared), view.encode(encoded)):
        assert [t.text for t in view.transcribe(audio)] == texts
        torch.testing.assert_close(view.text_log_probs(audio, TEXTS), scores, atol=1e-3, rtol=1e-3)
        for one, clip in zip(audio, CLIPS, strict=True):
            assert view.duration_s(one) == pytest.approx(len(clip) / RATE, abs=0.02)
    assert loss_of(view, prepared, TEXTS) == pytest.approx(loss, rel=1e-4)
    again = view.prepare(prepared)
    assert loss_of(view, again, TEXTS) == pytest.approx(loss, rel=1e-4)
    assert base.prepare([]) == base.encode([]) == []


def test_threads_on_one_base_do_not_interfere(base: Recogniser) -> None:
    views = [base.using([random_delta(base, seed=seed)]) for seed in range(3)]

    def results(index: int) -> tuple[torch.Tensor, list[Transcript]]:
        view = views[index % 3]
        return view.text_log_probs(CLIPS, TEXTS), view.transcribe(CLIPS[index % 2 :], TIMED)

    alone = [results(index) for index in range(6)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(results, [*range(6)] * 2))
    for index, (scores, transcripts) in enumerate(together):
        torch.testing.assert_close(scores, alone[index % 6][0], atol=1e-4, rtol=1e-4)
        assert [[s.words for s in t.segments] for t in transcripts] == [
            [s.words for s in t.segments] for t in alone[index % 6][1]
        ]


# Words


def test_embeddings_are_unit_vectors_and_do_not_depend_on_padding(base: Recogniser) -> None:
    if not isinstance(base, WordEmbedder):
        pytest.skip("this kind embeds no words")
    vectors = base.embed(CLIPS)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(CLIPS)))
    for vector, clip in zip(vectors, CLIPS, strict=True):
        torch.testing.assert_close(vector, base.embed([clip])[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(base.embed(base.encode(CLIPS)), vectors, atol=1e-4, rtol=1e-4)
