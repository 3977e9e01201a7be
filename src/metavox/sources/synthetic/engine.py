"""A small process that speaks with espeak-ng: requests as JSON on stdin, 16-bit samples on stdout.

espeak-ng carries state from one utterance to the next (flutter, random noise), so each utterance is spoken in a fork of
a process that has not spoken yet. Only a process without threads and with little memory forks safely and fast, so this
module imports no numerical libraries and runs as a file of its own.
"""

import ctypes
import gc
import json
import os
import resource
import signal
import struct
import sys
from collections.abc import Sequence

import espeakng_loader

RATE_HZ = 22050
SYNCHRONOUS, UTF8, PHONEMES = 2, 1, 0x100
SPEED, PITCH, PITCH_RANGE = 1, 3, 4
LENGTH = struct.Struct("<I")
NOT_SPOKEN = 0xFFFFFFFF  # sent instead of a length
CPU_LIMIT_S = 60  # for one utterance; two minutes of speech take a tenth of a second

Request = tuple[str, str, int, int, int, str]
"""(espeak voice, text, words per minute, pitch 0..99, pitch range 0..99, the voice that reads the text, or "" for the
first voice itself)"""


def main() -> None:
    """Answer each request in order with a length and that many bytes, or with NOT_SPOKEN alone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C and ends this one
    requests = [tuple(request) for request in json.load(sys.stdin)]
    engine = start()
    gc.freeze()
    for request in requests:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S))
                samples = speak(engine, request)
                with os.fdopen(1, "wb") as out:
                    out.write(LENGTH.pack(len(samples)) + samples)
                code = 0
            finally:
                os._exit(code)
        if os.waitpid(child, 0)[1]:
            os.write(1, LENGTH.pack(NOT_SPOKEN))


def start() -> ctypes.CDLL:
    engine = ctypes.CDLL(str(espeakng_loader.get_library_path()))
    if engine.espeak_Initialize(SYNCHRONOUS, 0, str(espeakng_loader.get_data_path()).encode(), 0) != RATE_HZ:
        raise RuntimeError(f"espeak-ng did not start at its usual sample rate of {RATE_HZ} Hz")
    return engine


def speak(engine: ctypes.CDLL, request: Sequence[str | int]) -> bytes:
    """16-bit samples of one request; they also depend on everything that this process has spoken before."""
    voice, text, *values, reader = request
    pcm = bytearray()

    def collect(samples: int | None, count: int, _events: int | None) -> int:
        if samples and count > 0:
            pcm.extend(ctypes.string_at(samples, 2 * count))
        return 0

    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)(collect)
    engine.espeak_SetSynthCallback(callback)
    if reader:
        text = phonemes(engine, str(reader), str(text))
    set_voice(engine, str(voice))
    for parameter, value in zip((SPEED, PITCH, PITCH_RANGE), values, strict=True):
        engine.espeak_SetParameter(parameter, value, 0)
    encoded = str(text).encode() + b"\0"
    engine.espeak_Synth(encoded, len(encoded), 0, 0, 0, UTF8 | (PHONEMES if reader else 0), None, None)
    return bytes(pcm)


def set_voice(engine: ctypes.CDLL, voice: str) -> None:
    if engine.espeak_SetVoiceByName(voice.encode()):
        raise RuntimeError(f"espeak-ng has no voice {voice}")


def phonemes(engine: ctypes.CDLL, reader: str, text: str) -> str:
    """The text in espeak's names of phonemes, as the voice `reader` reads it, in the brackets that mark them as such."""
    set_voice(engine, reader)
    engine.espeak_TextToPhonemes.restype = ctypes.c_char_p
    buffer = ctypes.create_string_buffer(text.encode())
    rest, clauses = ctypes.c_void_p(ctypes.addressof(buffer)), []
    while rest.value:
        clauses.append(engine.espeak_TextToPhonemes(ctypes.byref(rest), UTF8, 0).decode())
    return ", ".join(f"[[{clause}]]" for clause in clauses if clause.strip())


if __name__ == "__main__":
    main()
