"""Word times by the attention of the alignment heads, which follows the audio (openai/whisper, timing.py).

Unlike there, the attention is not standardised over the audio, and word boundaries are shifted: both brought
words of development speakers nearer to a forced alignment (benchmarks/word_times.py measures it on test
speakers).
"""

import math
from dataclasses import replace

import numpy as np
import torch

from metavox.recognisers.lora import shared_view
from metavox.recognisers.transcript import Segment, Word
from metavox.recognisers.whisper.encoding import ClipEncoder, Window
from metavox.recognisers.whisper.network import Whisper
from metavox.recognisers.whisper.tokens import FRAME_S, Tokens

MEDIAN_FRAMES = 3  # along the audio
DELAY_S = 0.1  # attention peaks where a word is certain, not where it starts
OPENING_MARKS = "\"'“¿([{-"  # belong to the word after them
STEPS = np.array([(1, 1), (1, 0), (0, 1)])  # backwards along a path: token and frame, token only, frame only


def with_words(
    clip_encoder: ClipEncoder,
    window: Window,
    segments: list[Segment],
    prompt: list[int],
    tokens: Tokens,
    heads: tuple[tuple[int, int], ...],
) -> list[Segment]:
    """The segments of a window with word times, from one more decoder pass over their text."""
    texts = [tokens.encode(" " + segment.text) for segment in segments]
    ids = [i for text in texts for i in text]
    if not ids:
        return segments
    states = clip_encoder.shared_states([window], clip_encoder.context_s(window))
    network = clip_encoder.network
    room = network.dimensions.max_target_positions - len(prompt) - 1
    attention, log_probs = alignment_attention(network, states, prompt, ids[:room], tokens, heads)
    frames = max(1, min(attention.shape[1], math.ceil(window.duration_s / FRAME_S)))
    starts_s = align(attention[:, :frames]) * FRAME_S
    starts_s[:-1] = np.maximum(0.0, starts_s[:-1] - DELAY_S)  # the last one is the end of the text
    out, first = [], 0
    for segment, text in zip(segments, texts, strict=True):
        end = min(first + len(text), len(ids[:room]))
        times = starts_s[first : end + 1]
        out.append(_split(segment, text[: end - first], times, log_probs[first:end], tokens))
        first = end
    return out


@torch.inference_mode()
def alignment_attention(
    network: Whisper,
    states: torch.Tensor,
    prompt: list[int],
    ids: list[int],
    tokens: Tokens,
    heads: tuple[tuple[int, int], ...],
) -> tuple[np.ndarray, np.ndarray]:
    """The decoder's attention to the audio (tokens + 1, time) as it writes `ids` and the end, and the
    log-probability of each of `ids`.

    states (1, time, dim).
    """
    decoder = shared_view(network.decoder)  # hooks on the shared network would see other threads too
    cross_attention = decoder.cross_attention(states)
    queries_of: dict[int, torch.Tensor] = {}
    hooks = [
        layer.encoder_attn.register_forward_pre_hook(  # type: ignore[operator, union-attr]
            lambda module, inputs, n=index: queries_of.__setitem__(n, module.queries(inputs[0]))
        )
        for index, layer in enumerate(decoder.layers)
    ]
    try:
        decoder_ids = torch.tensor([[*prompt, *ids, tokens.end]], device=states.device)
        out = decoder(decoder_ids, cross_attention)
    finally:
        for hook in hooks:
            hook.remove()
    weights = []
    for layer, head in heads:
        queries, keys = queries_of[layer][0, head], cross_attention.encoded[layer][0][0, head]
        weights.append((queries @ keys.T / math.sqrt(keys.shape[-1])).softmax(-1))
    weights_of_text = torch.stack(weights)[:, len(prompt) - 1 :]
    first = len(prompt) - 1
    log_probs = decoder.logits(out[0, first : first + len(ids)]).float().log_softmax(-1)
    chosen = log_probs.gather(1, torch.tensor(ids, device=states.device)[:, None])[:, 0]
    return _smooth(weights_of_text[:, :-1].float().cpu().numpy()), chosen.cpu().numpy()


def _smooth(weights: np.ndarray) -> np.ndarray:
    """(heads, tokens, time) -> (tokens, time): a median filter along the audio, then the mean over heads."""
    # scipy.signal takes a second to load, and most commands do not need it.
    from scipy.signal import medfilt

    width = min(MEDIAN_FRAMES, weights.shape[2] - (1 - weights.shape[2] % 2))
    return np.asarray(medfilt(weights, (1, 1, max(1, width))).mean(axis=0))


def align(attention: np.ndarray) -> np.ndarray:
    """Attention (tokens, time) -> the frame at which each token starts (tokens,), on the monotonic path with
    most attention.

    Dynamic time warping.
    """
    tokens, time = attention.shape
    cost = np.full((tokens + 1, time + 1), np.inf)
    cost[0, 0] = 0.0
    back = np.zeros((tokens + 1, time + 1), np.int8)
    back[0, :], back[:, 0] = 2, 1
    for diagonal in range(2, tokens + time + 1):  # cells whose predecessors are known
        i = np.arange(max(1, diagonal - time), min(tokens, diagonal - 1) + 1)
        j = diagonal - i
        predecessors = np.stack([cost[i - 1, j - 1], cost[i - 1, j], cost[i, j - 1]])
        back[i, j] = predecessors.argmin(axis=0)
        cost[i, j] = predecessors.min(axis=0) - attention[i - 1, j - 1]
    starts = np.zeros(tokens, int)
    i, j = tokens, time
    while i > 0 and j > 0:
        starts[i - 1] = j - 1
        i, j = np.array([i, j]) - STEPS[back[i, j]]
    return starts


def _split(
    segment: Segment, ids: list[int], starts_s: np.ndarray, log_probs: np.ndarray, tokens: Tokens
) -> Segment:
    """Add the words to a segment. `starts_s` has one more time than there are ids: the end of the last."""
    words = []
    for first, end in _words(ids, tokens):
        text = tokens.decode(ids[first:end]).strip()
        edges = starts_s[first], starts_s[min(end, len(starts_s) - 1)]
        start_s, end_s = np.clip(edges, segment.start_s, segment.end_s).tolist()
        if text:
            confidence = float(np.exp(log_probs[first:end].mean()))
            words.append(Word(text, start_s, max(start_s, end_s), confidence))
    return replace(segment, words=tuple(words))


def _words(ids: list[int], tokens: Tokens) -> list[tuple[int, int]]:
    """Ranges of ids that form words: a new word starts with a space once the text so far is complete
    characters.
    """
    starts = [0]
    for position in range(1, len(ids)):
        piece = tokens.decode(ids[position : position + 1])
        text_so_far = tokens.decode(ids[starts[-1] : position])
        if (
            piece.startswith(" ")
            and "\ufffd" not in text_so_far
            and text_so_far.strip() not in tuple(OPENING_MARKS)
        ):
            starts.append(position)
    return list(zip(starts, [*starts[1:], len(ids)], strict=True)) if ids else []
