"""Presents a recording's bytes to libsndfile and FFmpeg with corrected header sizes."""

import io
from collections.abc import Iterable
from typing import BinaryIO

UNKNOWN_SIZES = (0, 0xFFFFFFFF)  # in the header of a WAV that was written as a stream
MAX_CHUNKS = 1000  # in a WAV before its samples


class ByteStream:
    """An open file for decoders that call back from C, where no exception can be raised.

    A seek outside the file, which a broken header asks for, does nothing. A failed read ends the file, and
    its error is kept in `failure`. A streamed WAV whose header gives length 0 or none reads as if the length
    had been filled in.
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
        for position, value in self._corrections:
            first, last = max(position - start, 0), min(position + len(value) - start, len(data))
            if first < last:
                skipped = max(start - position, 0)
                data = data[:first] + value[skipped : skipped + last - first] + data[last:]
        return data

    def head(self, size: int) -> bytes:
        """The first bytes; the next read starts at the beginning again."""
        self.seek(0)
        data = self.read(size)
        self.seek(0)
        return data

    def _wav_sizes(self) -> Iterable[tuple[int, bytes]]:
        """Positions and bytes of the lengths that a WAV's header lacks."""
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
                    for position, value in ((4, length - 8), (at + 4, rest)):
                        yield position, min(value, 0xFFFFFFFF).to_bytes(4, "little")
                return
            at += 8 + size + size % 2
