"""Files that are not recordings, or broken ones: each function returns the bytes of one file.

The clip passed to a function is clean speech.
"""

import gzip
import io
import zipfile
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from planted.clips import Clip, encoded, picture, wav
from planted.fault import EITHER, REFUSE, TAKE, Fault, register

RATE = 16000
SOUNDS: list[Fault] = []


def sound(file: str, message: str, outcome: str = REFUSE) -> Callable[..., Any]:
    return register(SOUNDS, file, outcome, message)


accepted = partial(sound, outcome=TAKE)


# --- not a recording


@sound("zero-bytes.wav", "empty")
def file_of_zero_bytes(clip: Clip) -> bytes:
    return b""


@sound("text.wav", "not audio|not a recording|text")
def text_named_wav(clip: Clip) -> bytes:
    return b"Dear reader, this is a letter and not a recording.\n" * 60


@sound("page.wav", "not audio|not a recording|text|HTML")
def error_page_named_wav(clip: Clip) -> bytes:
    return b"<!DOCTYPE html><html><head><title>404 Not Found</title></head><body>gone</body></html>\n" * 9


@sound("picture.flac", "no (sound|audio) track|not audio|JPEG|picture")
def jpeg_named_flac(clip: Clip) -> bytes:
    return picture("mjpeg", "mjpeg")


@sound("film.mp4", "no (sound|audio) track")
def film_without_sound(clip: Clip) -> bytes:
    return picture("mp4", "mpeg4")


@sound("archive.wav", "not audio|zip|archive")
def zip_named_wav(clip: Clip) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.wav", wav(clip.at(RATE), RATE))
    data = bytearray(file.getvalue())
    data[6] |= 1  # the flag for encryption
    return bytes(data)


@sound("packed.wav", "not audio|gzip|archive")
def gzip_named_wav(clip: Clip) -> bytes:
    return gzip.compress(wav(clip.at(RATE), RATE), mtime=0)


@sound("random.ogg", "not audio")
def random_bytes(clip: Clip) -> bytes:
    return np.random.default_rng(7).bytes(9000)


@sound("zeros.mp3", "not audio")
def nothing_but_zero_bytes(clip: Clip) -> bytes:
    return bytes(8000)


@sound("tags.mp3", "not audio|no sample|no sound")
def mp3_of_tags_only(clip: Clip) -> bytes:
    text = b"\x00a title and no sound"
    frame = b"TIT2" + len(text).to_bytes(4, "big") + b"\x00\x00" + text
    size = 1014
    return b"ID3\x03\x00\x00" + bytes((0, 0, size >> 7, size & 127)) + frame.ljust(size, b"\0")


@sound("session.wav", "not audio(?!.*timed out)")
def session_description_that_names_a_port(clip: Clip) -> bytes:
    """ffmpeg would listen on the port for ten seconds if it were allowed to."""
    return (
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        b"m=audio 45678 RTP/AVP 0\na=rtpmap:0 PCMU/8000\n"
    )


# --- broken recordings


@sound("head-cut.wav", "not audio|cut|truncated|ends")
def header_cut_short(clip: Clip) -> bytes:
    return wav(clip.at(RATE), RATE)[:20]


@sound("no-samples.wav", "no sample|no sound")
def header_without_samples(clip: Clip) -> bytes:
    return wav(np.zeros(0), RATE)


@sound("half.flac", "decoded|cut|truncated|ends|damaged|corrupt")
def flac_cut_in_half(clip: Clip) -> bytes:
    data = encoded(clip.at(RATE), RATE, "FLAC")
    return data[: len(data) // 2]


CUT = "cut|truncat|short|ends|incomplete|claims|promises|missing"


@sound("half.wav", CUT, EITHER)
def wav_cut_in_half(clip: Clip) -> bytes:
    """Half of a word under the text of the full word."""
    data = wav(clip.at(RATE), RATE)
    return data[: len(data) // 2]


DAMAGED = "MD5|checksum|damaged|corrupt|decod"


@sound("flipped.flac", f"{DAMAGED}|{CUT}")
def flac_with_bits_flipped_in_the_middle(clip: Clip) -> bytes:
    """libFLAC skips the broken frame silently."""
    data = bytearray(encoded(clip.at(RATE), RATE, "FLAC"))
    for position in range(len(data) // 2, len(data) // 2 + 40):
        data[position] ^= 0x55
    return bytes(data)


@sound("digest.flac", DAMAGED)
def flac_with_another_md5_than_its_samples(clip: Clip) -> bytes:
    data = bytearray(encoded(clip.at(RATE), RATE, "FLAC"))
    data[26:42] = bytes(range(16))  # in STREAMINFO, after the magic number and the block header
    return bytes(data)


@sound("nan.wav", "not numbers|NaN")
def sample_that_is_not_a_number(clip: Clip) -> bytes:
    samples = clip.at(RATE)
    samples[len(samples) // 2] = np.nan
    return encoded(samples, RATE, "WAV", "FLOAT")


@sound("inf.wav", "not numbers|infinit")
def sample_that_is_infinite(clip: Clip) -> bytes:
    samples = clip.at(RATE)
    samples[len(samples) // 2] = -np.inf
    return encoded(samples, RATE, "WAV", "FLOAT")


# --- headers with impossible values


@sound("rate-2-29.wav", "536870912")
def rate_of_two_to_the_29(clip: Clip) -> bytes:
    return wav(clip.at(RATE), 2**29)


@sound("rate-0.wav", "not audio|rate")
def rate_of_zero(clip: Clip) -> bytes:
    return wav(clip.at(RATE), 0)


@sound("rate-1.wav", r"\b1 Hz")
def rate_of_one_hertz(clip: Clip) -> bytes:
    return wav(clip.at(RATE)[:8000], 1)


@sound("rate-4000.wav", "4000 Hz")
def rate_of_four_kilohertz(clip: Clip) -> bytes:
    return wav(clip.at(4000), 4000)


@sound("no-channel.wav", "not audio|channel")
def no_channel(clip: Clip) -> bytes:
    return wav(clip.at(RATE), RATE, channels=0)


@sound("4-gb.wav", "", TAKE)
def header_that_claims_four_gigabytes(clip: Clip) -> bytes:
    """As written to a pipe, where the size is not known in advance. All samples are there."""
    return wav(clip.at(RATE), RATE, claimed=2**32 - 1)


@sound("4-gb.au", "", EITHER)
def sun_header_that_claims_four_gigabytes(clip: Clip) -> bytes:
    data = bytearray(encoded(clip.at(RATE), RATE, "AU"))
    data[8:12] = (2**32 - 2).to_bytes(4, "big")
    return bytes(data)


# --- lengths


@sound("instant.wav", r"lasts 0\.01 s")
def hundredth_of_a_second(clip: Clip) -> bytes:
    return wav(clip.at(RATE)[1000:1160], RATE)


@sound("one-sample.wav", r"lasts 0\.00 s|1 sample|no sample")
def one_sample(clip: Clip) -> bytes:
    return wav(np.full(1, 0.5), RATE)


@sound("two-hours.flac", r"lasts \d{4,}|\d+ s long|over .* (min|h) long|too long")
def two_hours(clip: Clip) -> bytes:
    file = np.zeros(2 * 3600 * 8000, np.int16)
    file[::4000] = 9000
    return encoded(file, 8000, "FLAC")


@sound("half-a-minute.ogg", r"lasts 3\d\.\d+ s")
def half_a_minute(clip: Clip) -> bytes:
    samples = clip.at(RATE)
    return encoded(np.tile(samples, -(-31 * RATE // len(samples))), RATE, "OGG", "VORBIS")
