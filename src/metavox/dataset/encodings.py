"""Detects the encoding of a user's text file by its byte order mark, its NULs, or the look of its letters."""

import codecs
import re
from pathlib import Path

UTF8 = "utf-8-sig"  # with a byte order mark or without
WESTERN = "cp1252"
BLOCK = 1 << 20
MAX_SAMPLE_BYTES = 1 << 20  # of lines that are not ASCII
MAX_LINE_BYTES = 1 << 16
MARKS = {
    codecs.BOM_UTF8: UTF8,
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, because it begins with the mark of UTF-16
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# The Windows code pages of languages that Windows-1252 does not cover.
CODE_PAGES = {
    language: page
    for page, languages in {
        "cp1250": "bs cs hr hu pl ro sk sl",
        "cp1251": "be bg kk mk mn ru sr uk",
        "cp1253": "el",
        "cp1254": "az tr",
        "cp1255": "he yi",
        "cp1256": "ar fa ur",
        "cp1257": "lt lv",
        "cp1258": "vi",
        "cp874": "th",
        "cp932": "ja",
        "cp949": "ko",
        "gb18030": "zh",
    }.items()
    for language in languages.split()
}
WORD = re.compile(r"[^\s\d!-@\[-`{-~]+")  # letters and characters beyond ASCII
AROUND_WORDS = "‘’“”„‚«»‹›¿¡…–—·•™®©°€£§†‡"
WITHIN_WORDS = "’‘–—·…\xad\xa0"
MISPLACED = re.compile("[a-zß-ö][À-ÞŠŽŒŸ]|^[ÿŸ]")  # capitals within a word are a sign of another encoding


class NotThatEncoding(Exception):
    """The file contains a byte that is not valid in the encoding."""

    def __init__(self, encoding: str, at: int, line: int) -> None:
        name = encoding.removesuffix("-sig").upper()
        super().__init__(f"byte {at} on line {line} is not {name}")


def find_encoding(path: Path) -> tuple[str, str]:
    """(encoding, an example word if the encoding is a guess, else empty).

    UTF-8, UTF-16 and UTF-32 are certain. Windows-1252 is a guess, made only if every word looks like a word of a Western
    European language. Raises NotThatEncoding if no encoding fits, OSError if the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    for mark, encoding in MARKS.items():
        if head.startswith(mark):
            check_encoding(path, encoding)
            return encoding, ""
    if encoding := _by_nuls(head):
        check_encoding(path, encoding)
        return encoding, ""
    try:
        check_encoding(path, UTF8)
    except NotThatEncoding:
        if not (word := _western_word(path)):
            raise
        check_encoding(path, WESTERN)
        return WESTERN, word
    return UTF8, ""


def check_encoding(path: Path, encoding: str) -> None:
    """Raises NotThatEncoding at the first byte that is invalid in the encoding, LookupError for an unknown encoding."""
    decoder = codecs.getincrementaldecoder(encoding)()
    done = lines = 0
    with path.open("rb") as file:
        while True:
            block = file.read(BLOCK)
            pending = decoder.getstate()[0]
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                line = lines + 1 + (pending + block)[: error.start].count(b"\n")
                raise NotThatEncoding(encoding, done - len(pending) + error.start, line) from error
            if not block:
                return
            done, lines = done + len(block), lines + block.count(b"\n")


def _by_nuls(head: bytes) -> str:
    """UTF-16 without a byte order mark, in which every other byte of English or of a path is NUL; empty if it is not."""
    even, odd = head[0::2].count(0), head[1::2].count(0)
    half = max(len(head) // 2, 1)
    if odd > 0.5 * half and even < 0.05 * half:
        return "utf-16-le"
    return "utf-16-be" if even > 0.5 * half and odd < 0.05 * half else ""


def _western_word(path: Path) -> str:
    """A word with an accent, decoded as Windows-1252; empty if the file does not look like Windows-1252."""
    letters = accented = 0
    example = ""
    for word in WORD.findall(_non_ascii_lines(path)):
        core = word.strip(AROUND_WORDS)
        if core.isascii():
            continue
        if not all(c.isalpha() or c in WITHIN_WORDS for c in core) or MISPLACED.search(core):
            return ""
        word_letters = [c for c in core if c.isalpha()]
        word_accented = sum(not c.isascii() for c in word_letters)
        if word_accented == len(word_letters) > 2:  # Cyrillic and Greek look like this
            return ""
        if len(word_letters) > 1:
            letters, accented = letters + len(word_letters), accented + word_accented
        if len(core) > len(example):
            example = core
    return "" if 4 * accented > 3 * letters else example


def _non_ascii_lines(path: Path) -> str:
    """The first lines that are not ASCII, decoded as Windows-1252; empty if they contain control characters."""
    sample = bytearray()
    with path.open("rb") as file:
        while len(sample) < MAX_SAMPLE_BYTES and (line := file.readline(MAX_LINE_BYTES)):
            if not line.isascii():
                sample += line
    if any(byte < 32 and byte not in b"\t\r\n" for byte in sample):
        return ""
    return sample.decode(WESTERN, "ignore")
