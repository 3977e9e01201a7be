"""Forty valid recordings of many kinds, none of which may be refused."""

from collections.abc import Callable
from unicodedata import normalize

import numpy as np
from planted.clips import Clip, encoded, encoded_av, wav

Make = Callable[[Clip], bytes]


def by_libsndfile(container: str, subtype: str | None = None, rate: int = 16000, gain: float = 1.0) -> Make:
    return lambda clip: encoded(gain * clip.at(rate), rate, container, subtype)


def by_ffmpeg(container: str, codec: str, rate: int = 16000, with_picture: bool = False) -> Make:
    return lambda clip: encoded_av(clip.at(rate), rate, container, codec, with_picture)


def in_hiss(level: float) -> Make:
    def make(clip: Clip) -> bytes:
        samples = clip.at(16000)
        noise = level * np.random.default_rng(5).standard_normal(len(samples) + 8000)
        noise[4000:-4000] += samples
        return wav(noise.clip(-0.98, 0.98), 16000)

    return make


def between_pauses(seconds: float) -> Make:
    def make(clip: Clip) -> bytes:
        pause = 1e-4 * np.random.default_rng(6).standard_normal(round(seconds * 16000))
        return wav(np.concatenate([pause, clip.at(16000), pause]), 16000)

    return make


def channels(count: int, rate: int = 16000) -> Make:
    def make(clip: Clip) -> bytes:
        silent = np.zeros((len(clip.at(rate)), count))
        silent[:, 0] = clip.at(rate)
        return encoded(silent, rate, "WAV")

    return make


def shortest(clip: Clip) -> bytes:
    """0.15 s around the loudest moment."""
    samples = clip.at(16000)
    loudest = int(np.convolve(samples**2, np.ones(2400), "valid").argmax())
    return wav(samples[loudest : loudest + 2400] * np.hanning(2400) ** 0.25, 16000)


CLEAN: dict[str, Make] = {
    "pcm16.wav": by_libsndfile("WAV"),
    "pcm24.wav": by_libsndfile("WAV", "PCM_24", 48000),
    "pcm32.wav": by_libsndfile("WAV", "PCM_32"),
    "pcm-u8.wav": by_libsndfile("WAV", "PCM_U8", 22050),
    "float.wav": by_libsndfile("WAV", "FLOAT", 44100),
    "double.wav": by_libsndfile("WAV", "DOUBLE", 32000),
    "a-law.wav": by_libsndfile("WAV", "ALAW", 8000),
    "mu-law.wav": by_libsndfile("WAV", "ULAW", 8000),
    "adpcm.wav": by_libsndfile("WAV", "IMA_ADPCM", 16000),
    "gsm.wav": by_libsndfile("WAV", "GSM610", 8000),
    "extensible.wav": by_libsndfile("WAVEX", "PCM_16", 11025),
    "rf64.wav": by_libsndfile("RF64"),
    "wave64.w64": by_libsndfile("W64"),
    "telephone.gsm": by_libsndfile("RAW", "GSM610", 8000),
    "telephone.au": by_libsndfile("RAW", "ULAW", 8000),
    "sun.au": by_libsndfile("AU"),
    "apple.aiff": by_libsndfile("AIFF"),
    "apple.caf": by_libsndfile("CAF"),
    "pcm16.flac": by_libsndfile("FLAC", "PCM_16", 44100),
    "pcm24.flac": by_libsndfile("FLAC", "PCM_24", 96000),
    "narrow.mp3": by_libsndfile("MP3", None, 8000),
    "wide.mp3": by_libsndfile("MP3", None, 44100),
    "vorbis.ogg": by_libsndfile("OGG", "VORBIS"),
    "opus.opus": by_libsndfile("OGG", "OPUS", 48000),
    "apple.m4a": by_ffmpeg("ipod", "aac", 44100),
    "web.webm": by_ffmpeg("webm", "libopus", 48000),
    "matroska.mka": by_ffmpeg("matroska", "flac"),
    "film.mp4": by_ffmpeg("mp4", "aac", 16000, with_picture=True),
    "quiet.wav": by_libsndfile("WAV", "PCM_16", 16000, 0.004),
    "quiet.flac": by_libsndfile("FLAC", "PCM_24", 16000, 0.001),
    "loud.wav": by_libsndfile("WAV", "PCM_16", 16000, 1.63),
    "gain.wav": by_libsndfile("WAV", "FLOAT", 16000, 6.0),
    "noisy.wav": in_hiss(0.03),
    "pauses.wav": between_pauses(1.0),
    "offset.wav": lambda clip: wav(0.8 * clip.at(16000) + 0.05, 16000),
    "one-side.wav": channels(2),
    "surround.wav": channels(6, 48000),
    "piped.wav": lambda clip: wav(clip.at(16000), 16000, claimed=2**32 - 1),
    "short.wav": shortest,
    "192-khz.wav": by_libsndfile("WAV", "PCM_24", 192000),
}

TEXTS: dict[str, Callable[[str], str]] = {
    "pcm16.wav": lambda text: f"{text}!",
    "short.wav": lambda text: text[0],
    "pcm24.wav": str.upper,
    "wide.mp3": lambda text: normalize("NFD", text),
    "apple.caf": lambda text: f"“{text}…”",
    "float.wav": lambda text: f"{text} & {text}",
}  # valid variants of a text
