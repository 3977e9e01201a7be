"""Recordings that can be decoded but are unfit for training, or only unusual; registered as in sounds.py."""

import numpy as np
from planted.clips import Clip, encoded, encoded_av, wav
from planted.fault import EITHER
from planted.sounds import RATE, SOUNDS, accepted, sound


def hiss(seconds: float, level: float = 0.1, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (level * random.standard_normal(round(seconds * RATE))).clip(-0.95, 0.95).astype(np.float32)


# --- unfit for training


@sound("silence.wav", "silent|silence")
def silence(clip: Clip) -> bytes:
    return wav(np.zeros(RATE), RATE)


@accepted("opposed.wav", "the loudest where they cancel out")
def two_channels_that_cancel_each_other(clip: Clip) -> bytes:
    samples = clip.at(RATE)
    return encoded(np.stack([samples, -samples], axis=1), RATE, "WAV")


@sound("constant.wav", "offset")
def constant_voltage(clip: Clip) -> bytes:
    return wav(np.full(RATE, 0.5), RATE)


@sound("offset.wav", "offset")
def speech_on_a_constant_voltage(clip: Clip) -> bytes:
    return wav(0.5 * clip.at(RATE) + 0.4, RATE)


@sound("square.wav", "clipped")
def square_wave_at_full_scale(clip: Clip) -> bytes:
    return wav(np.sign(np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE) + 1e-9), RATE)


@sound("clipped.flac", "clipped")
def speech_turned_up_until_it_clips(clip: Clip) -> bytes:
    return encoded((30 * clip.at(RATE)).clip(-1, 1), RATE, "FLAC")


@sound("hiss.wav", "noise")
def nothing_but_hiss(clip: Clip) -> bytes:
    return wav(hiss(2.0), RATE)


@sound("buried.wav", "noise")
def speech_buried_in_hiss(clip: Clip) -> bytes:
    samples = clip.at(RATE)
    return wav((0.02 * samples + hiss(len(samples) / RATE, 0.2, seed=3)[: len(samples)]), RATE)


@sound("hum.wav", "noise|bandwidth")
def nothing_but_mains_hum(clip: Clip) -> bytes:
    return wav(0.5 * np.sin(2 * np.pi * 50 * np.arange(2 * RATE) / RATE), RATE)


@sound("click.wav", "silent|click")
def lone_click(clip: Clip) -> bytes:
    samples = np.zeros(2 * RATE)
    samples[RATE : RATE + 8] = 0.8
    return wav(samples, RATE)


@sound("muffled.wav", "bandwidth")
def nothing_above_four_hundred_hertz(clip: Clip) -> bytes:
    samples = clip.at(RATE)
    spectrum = np.fft.rfft(samples)
    spectrum[np.fft.rfftfreq(len(samples), 1 / RATE) > 400] = 0
    return wav(np.fft.irfft(spectrum, len(samples)), RATE)


# --- unusual, but fit for training


@accepted("wav.mp3", "wav")
def wav_named_mp3(clip: Clip) -> bytes:
    return wav(clip.at(RATE), RATE)


@accepted("192-khz.wav", "")
def sampled_at_192_khz(clip: Clip) -> bytes:
    return wav(clip.at(192000), 192000)


@accepted("eight.wav", "")
def eight_channels(clip: Clip) -> bytes:
    samples = clip.at(RATE)
    return encoded(np.stack([samples / (n + 1) for n in range(8)], axis=1), RATE, "WAV")


@sound("chained.ogg", "chain|second|stream|part", EITHER)
def two_ogg_streams_one_after_the_other(clip: Clip) -> bytes:
    """A decoder that stops after the first stream returns half of the speech."""
    samples = clip.at(RATE)
    half = len(samples) // 2
    return encoded(samples[:half], RATE, "OGG", "VORBIS") + encoded(samples[half:], RATE, "OGG", "VORBIS")


@accepted("film-with-sound.mp4", "")
def film_with_sound(clip: Clip) -> bytes:
    return encoded_av(clip.at(RATE), RATE, "mp4", "aac", with_picture=True)


@accepted("junk-behind.wav", "")
def wav_with_junk_behind_it(clip: Clip) -> bytes:
    return wav(clip.at(RATE), RATE) + b"junk" * 500


__all__ = ["SOUNDS"]
