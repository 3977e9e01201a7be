"""Detects damaged and truncated files: decoders replace missing parts by silence without an error."""

import hashlib
import io

import numpy as np
import soundfile

UNKNOWN_SIZE = 0x7FFFF000  # programs that write to a pipe claim this size or more
TOLERATED_LOSS = 0.01  # share of the audio; a smaller loss is an imprecise header
BLOCK = 1 << 18  # samples decoded at once
FIRST_PAGE = 2


def damage(data: bytes) -> str:
    """What is missing or damaged in a wav or flac; empty for an intact file and for any other format."""
    if data[:4] in (b"RIFF", b"RIFX"):
        return _of_wav(data)
    return _of_flac(data) if data[:4] == b"fLaC" else ""


def streams(data: bytes) -> int:
    """The number of consecutive streams in an ogg file; libsndfile reads only the first.

    This is not damage: some published files have a second of silence behind their word.
    """
    at, started, count = 0, False, 1
    while data[at : at + 4] == b"OggS" and at + 27 <= len(data):
        first = bool(data[at + 5] & FIRST_PAGE)
        count += first and started
        started = not first
        segments = data[at + 27 : at + 27 + data[at + 26]]
        at += 27 + len(segments) + sum(segments)
    return count


def _of_wav(data: bytes) -> str:
    order = "little" if data[:4] == b"RIFF" else "big"
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], order)  # type: ignore[arg-type]
        available = len(data) - at - 8
        if data[at : at + 4] == b"data":
            cut = available < (1 - TOLERATED_LOSS) * size and size < UNKNOWN_SIZE
            return f"cut short: holds {available} of {size} bytes of audio" if cut else ""
        at += 8 + size + size % 2
    return ""


def _of_flac(data: bytes) -> str:
    """Compare with the header's number of samples and MD5 of all samples, because libFLAC skips broken frames
    silently.
    """
    head = int.from_bytes(data[18:26], "big")  # rate: 20 bits, channels: 3, bits of a sample: 5, samples: 36
    bits, expected, digest = (head >> 36 & 31) + 1, head & (1 << 36) - 1, data[26:42]
    total, count = hashlib.md5(usedforsecurity=False), 0
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            while len(block := file.read(BLOCK, dtype="int32", always_2d=True)):
                count += len(block)
                samples = (block >> (32 - bits)).astype("<i4").view(np.uint8).reshape(-1, 4)
                total.update(samples[:, : (bits + 7) // 8].tobytes())
    except soundfile.LibsndfileError as error:
        return f"damaged: {error}"
    if expected and count < expected:
        return f"damaged: only {count} of {expected} samples can be decoded"
    if any(digest) and total.digest() != digest:
        return "damaged: its samples have another MD5 than its header gives"
    return ""
