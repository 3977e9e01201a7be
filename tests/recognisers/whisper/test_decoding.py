"""Decoding matches transformers; timestamp rules, batches, limits, and signs of failure."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import GenerationMixin, WhisperForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from metavox.recognisers.whisper.decoding import Decoded, Rules, decode, detect_languages, max_tokens
from metavox.recognisers.whisper.features import log_mels
from metavox.recognisers.whisper.network import Whisper
from metavox.recognisers.whisper.recogniser import WhisperRecogniser
from metavox.recognisers.whisper.tokens import Tokens, read_json
from metavox.recognisers.whisper.weights import load_network
from tests.recognisers.whisper.conftest import MakeFolder

MakeRecogniser = Callable[..., WhisperRecogniser]


def states_of(network: Whisper, clips: list[np.ndarray], samples: int = 80_000) -> torch.Tensor:
    with torch.inference_mode():
        return network.encoder(log_mels(clips, samples, network.dimensions.num_mel_bins))


@pytest.mark.parametrize("multilingual", [False, True])
def test_greedy_decoding_matches_transformers(
    make_folder: MakeFolder, clips: list[np.ndarray], multilingual: bool
) -> None:
    folder = make_folder(multilingual)
    network, tokens = load_network(folder), Tokens.read(folder)
    rules = Rules.of(tokens, read_json(folder / "generation_config.json"))
    rules = replace(rules, timestamps=False)
    theirs = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    prompt = tokens.prompt("it", "transcribe", timestamps=False)
    # `generate` has no timestamp rules here, so timestamps and the no-timestamps token are suppressed.
    suppressed = [*rules.suppressed, *range(tokens.first_timestamp, network.dimensions.vocab_size)]
    encoded = BaseModelOutput(last_hidden_state=states_of(network, clips, 480_000).clone())
    expected = GenerationMixin.generate(
        theirs,
        encoder_outputs=encoded,
        decoder_input_ids=torch.tensor([prompt] * len(clips)),
        max_new_tokens=20,
        do_sample=False,
        num_beams=1,
        suppress_tokens=suppressed,
        begin_suppress_tokens=list(rules.suppressed_first),
    )
    for row, ours in zip(
        expected, decode(network, states_of(network, clips, 480_000), [prompt] * 4, rules, 20), strict=True
    ):
        written = row[len(prompt) :].tolist()
        end = written.index(tokens.end) if tokens.end in written else len(written)
        assert ours.ids == written[:end]
        assert ours.complete == (tokens.end in written)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_timestamps_are_in_pairs_and_never_decrease(
    make_recogniser: MakeRecogniser, clips: list[np.ndarray], temperature: float
) -> None:
    for seed in range(3):
        recogniser = make_recogniser(seed=seed, name=f"seed-{seed}")
        tokens, network = recogniser.tokens, recogniser.network
        random = torch.Generator().manual_seed(seed)
        states = states_of(network, clips)
        for decoded in decode(
            network, states, [[tokens.start]] * 4, recogniser.rules, 60, temperature, random
        ):
            is_time = [i >= tokens.first_timestamp for i in decoded.ids]
            times = [i - tokens.first_timestamp for i in decoded.ids if i >= tokens.first_timestamp]
            assert is_time[0]
            assert times[0] <= recogniser.rules.first_time
            assert times == sorted(times)
            assert max(times) <= states.shape[1]
            assert not any(all(is_time[i : i + 3]) for i in range(len(is_time) - 2))
            assert len(is_time) < 2 or not is_time[1]
            assert not {1, 2, 257, tokens.no_timestamps}.intersection(decoded.ids)


def test_a_text_does_not_depend_on_its_batch(
    make_recogniser: MakeRecogniser, clips: list[np.ndarray]
) -> None:
    recogniser = make_recogniser()
    network, prompt = recogniser.network, [recogniser.tokens.start]
    states = states_of(network, [*clips, *clips[::-1]])
    for _ in range(20):  # until some texts end before others
        network.decoder.embed_tokens.weight[recogniser.tokens.end].mul_(1.5)
        batched = decode(network, states, [prompt] * 8, recogniser.rules, 40)
        if len({len(decoded.ids) for decoded in batched}) > 1:
            break
    else:
        pytest.fail("all texts are of one length")
    for row, decoded in zip(states, batched, strict=True):
        (alone,) = decode(network, row[None], [prompt], recogniser.rules, 40)
        assert alone.ids == decoded.ids
        np.testing.assert_allclose(alone.log_probs, decoded.log_probs, atol=1e-4)
        assert alone.no_speech == pytest.approx(decoded.no_speech, abs=1e-5)


def test_log_probabilities_are_over_allowed_tokens(
    make_recogniser: MakeRecogniser, clips: list[np.ndarray]
) -> None:
    recogniser = make_recogniser()
    network, tokens = recogniser.network, recogniser.tokens
    rules = replace(recogniser.rules, timestamps=False)
    prompt = tokens.prompt(None, "transcribe", timestamps=False)
    states = states_of(network, clips[:1])
    (decoded,) = decode(network, states, [prompt], rules, 10)
    with torch.inference_mode():
        out = network.decoder(
            torch.tensor([[*prompt, *decoded.ids]]), network.decoder.cross_attention(states)
        )
        logits = network.decoder.logits(out)[0, len(prompt) - 1 :].clone()
        logits[:, [*rules.suppressed, *range(tokens.first_timestamp, logits.shape[1])]] = -torch.inf
        logits[0, list(rules.suppressed_first)] = -torch.inf
    expected = logits.log_softmax(-1)[range(len(decoded.ids)), decoded.ids]
    np.testing.assert_allclose(decoded.log_probs, expected.numpy(), atol=1e-4)


def test_a_long_prompt_limits_the_text(make_recogniser: MakeRecogniser, clips: list[np.ndarray]) -> None:
    recogniser = make_recogniser()
    prompt = [recogniser.tokens.previous, *[40] * 443, recogniser.tokens.start]
    (decoded,) = decode(
        recogniser.network, states_of(recogniser.network, clips[:1]), [prompt], recogniser.rules
    )
    assert len(decoded.ids) <= 3


def test_languages_are_detected_by_their_tokens(
    make_recogniser: MakeRecogniser, clips: list[np.ndarray]
) -> None:
    recogniser = make_recogniser(multilingual=True)
    languages = detect_languages(recogniser.network, states_of(recogniser.network, clips), recogniser.tokens)
    assert len(languages) == 4
    assert set(languages) <= {"en", "it", "de"}


def test_loops_and_guesses_are_doubtful() -> None:
    confident = Decoded([300, 40, 41], [-0.1, -0.1, -0.1], -0.1, 0.1, True, "over there, behind the old mill")
    assert not confident.doubtful
    assert replace(confident, complete=False).loops
    assert replace(confident, text="and then " * 40).loops
    uncertain = replace(confident, log_probs=[-3.0, -2.0, -2.0])
    assert uncertain.doubtful
    assert not uncertain.loops
    assert replace(uncertain, no_speech=0.9).silent
    assert not replace(uncertain, no_speech=0.9).doubtful


def test_short_clips_have_a_lower_token_limit() -> None:
    assert max_tokens(1.0) < max_tokens(5.0) < max_tokens(30.0) == 224
