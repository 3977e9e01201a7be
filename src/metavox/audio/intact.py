"""Whether an encoded recording is all there. A decoder goes on in silence where a part is missing or damaged."""

import hashlib
import io

import numpy as np
import soundfile

SIZE_UNKNOWN = 0x7FFFF000  # a program that writes to a pipe claims that much, or more
MISSING = 0.01  # of the sound: less is a header that counts a little wrong
BLOCK = 1 << 18  # samples read at once
FIRST_PAGE = 2


def damage(data: bytes) -> str:
    """What is missing in a wav or flac, or damaged; empty where nothing is, and for any other format."""
    if data[:4] in (b"RIFF", b"RIFX"):
        return _of_wav(data)
    return _of_flac(data) if data[:4] == b"fLaC" else ""


def streams(data: bytes) -> int:
    """How many streams of an ogg begin after another one has ended, itself included; libsndfile reads the first.

    Some real files have a second of silence behind their word, so this is no damage.
    """
    at, begun, found = 0, False, 1
    while data[at : at + 4] == b"OggS" and at + 27 <= len(data):
        first = bool(data[at + 5] & FIRST_PAGE)
        found += first and begun
        begun = not first
        segments = data[at + 27 : at + 27 + data[at + 26]]
        at += 27 + len(segments) + sum(segments)
    return found


def _of_wav(data: bytes) -> str:
    order = "little" if data[:4] == b"RIFF" else "big"
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], order)  # type: ignore[arg-type]
        there = len(data) - at - 8
        if data[at : at + 4] == b"data":
            cut = there < (1 - MISSING) * size and size < SIZE_UNKNOWN
            return f"cut short: {there} of {size} bytes of sound are there" if cut else ""
        at += 8 + size + size % 2
    return ""


def _of_flac(data: bytes) -> str:
    """Its header has the number of samples and the MD5 of all of them; libFLAC leaves broken frames out."""
    head = int.from_bytes(data[18:26], "big")  # rate: 20 bits, channels: 3, bits of a sample: 5, samples: 36
    bits, promised, digest = (head >> 36 & 31) + 1, head & (1 << 36) - 1, data[26:42]
    total, found = hashlib.md5(usedforsecurity=False), 0
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            while len(block := file.read(BLOCK, dtype="int32", always_2d=True)):
                found += len(block)
                whole = (block >> (32 - bits)).astype("<i4").view(np.uint8).reshape(-1, 4)
                total.update(whole[:, : (bits + 7) // 8].tobytes())
    except soundfile.LibsndfileError as error:
        return f"damaged: {error}"
    if promised and found < promised:
        return f"damaged: {found} of {promised} samples can be decoded"
    if any(digest) and total.digest() != digest:
        return "damaged: its samples have another MD5 than its header says"
    return ""
