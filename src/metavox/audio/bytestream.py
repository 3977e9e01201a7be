"""A recording's bytes as libsndfile and FFmpeg read them, whatever its header claims."""

import io
from collections.abc import Iterable
from typing import BinaryIO

UNKNOWN_SIZES = (0, 0xFFFFFFFF)  # of a WAV that was written as a stream
MAX_CHUNKS = 1000  # of a WAV before its samples


class ByteStream:
    """An open file for decoders that call back from C, where nothing can be raised.

    A seek to nowhere, as a broken header asks for, stays where it is. A failed read ends the file and is kept in `failure`.
    A WAV that was written as a stream, whose header says 0 or nothing about its length, reads as if that had been filled in.
    """

    def __init__(self, file: BinaryIO):
        self.failure: OSError | None = None
        self._file = file
        self._corrections: tuple[tuple[int, bytes], ...] = ()
        self._corrections = tuple(self._wav_sizes())
        self.seek(0)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            return self._file.seek(offset, whence)
        except (ValueError, OSError):
            return self._file.tell()

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        start = self._file.tell()
        try:
            data = self._file.read(size)
        except OSError as error:
            self.failure = error
            return b""
        for place, value in self._corrections:
            first, last = max(place - start, 0), min(place + len(value) - start, len(data))
            if first < last:
                skipped = max(start - place, 0)
                data = data[:first] + value[skipped : skipped + last - first] + data[last:]
        return data

    def head(self, size: int) -> bytes:
        """The first bytes; the next read begins with them again."""
        self.seek(0)
        data = self.read(size)
        self.seek(0)
        return data

    def _wav_sizes(self) -> Iterable[tuple[int, bytes]]:
        """(place, bytes) of the lengths that a WAV's header lacks."""
        head = self.head(12)
        if not (head.startswith(b"RIFF") and head[8:12] == b"WAVE"):
            return
        length, at = self.seek(0, io.SEEK_END), 12
        for _ in range(MAX_CHUNKS):
            self.seek(at)
            header = self.read(8)
            size = int.from_bytes(header[4:], "little")
            if len(header) < 8:
                return
            if header.startswith(b"data"):
                if size in UNKNOWN_SIZES and (rest := length - at - 8):
                    for place, value in ((4, length - 8), (at + 4, rest)):
                        yield place, min(value, 0xFFFFFFFF).to_bytes(4, "little")
                return
            at += 8 + size + size % 2
