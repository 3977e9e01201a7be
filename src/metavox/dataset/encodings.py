"""Which encoding a text file of the user's is in: by its byte order mark, its NULs, or what its letters look like."""

import codecs
import re
from pathlib import Path

UTF8 = "utf-8-sig"  # with a byte order mark or without
WESTERN = "cp1252"
BLOCK = 1 << 20
LOOKED_AT = 1 << 20  # bytes of lines that are not ASCII
LONGEST_LINE = 1 << 16
MARKS = {
    codecs.BOM_UTF8: UTF8,
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# Windows' code page for languages that Windows-1252 is not for; Italian and the like are not in here.
PAGES = {
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
WORD = re.compile(r"[^\s\d!-@\[-`{-~]+")  # of letters, and of signs beyond ASCII
AROUND = "‘’“”„‚«»‹›¿¡…–—·•™®©°€£§†‡"  # signs that stand before or after a word
WITHIN = "’‘–—·…\xad\xa0"
MISPLACED = re.compile("[a-zß-ö][À-ÞŠŽŒŸ]|^[ÿŸ]")  # capitals within a word, as other encodings come out


class NotThatEncoding(Exception):
    """A byte of the file does not belong to the encoding."""

    def __init__(self, encoding: str, at: int, line: int) -> None:
        name = encoding.removesuffix("-sig").upper()
        super().__init__(f"byte {at} on line {line} is not {name}")


def find_encoding(path: Path) -> tuple[str, str]:
    """(encoding, a word that shows the guess; empty where nothing was guessed).

    UTF-8, UTF-16 and UTF-32 are certain. Windows-1252 is a guess, made only where every word looks like one of a
    Western European language. Raises NotThatEncoding where nothing fits, OSError where the file cannot be read.
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
    """Raises NotThatEncoding at the first byte that does not belong to it, LookupError for an unknown encoding."""
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
    """UTF-16 without a byte order mark: every other byte of English or of a path is NUL."""
    even, odd = head[0::2].count(0), head[1::2].count(0)
    half = max(len(head) // 2, 1)
    if odd > 0.5 * half and even < 0.05 * half:
        return "utf-16-le"
    return "utf-16-be" if even > 0.5 * half and odd < 0.05 * half else ""


def _western_word(path: Path) -> str:
    """A word with an accent, as Windows-1252 reads it; empty where the file does not look like Windows-1252."""
    letters = beyond = 0
    example = ""
    for word in WORD.findall(_beyond_ascii(path)):
        core = word.strip(AROUND)
        if core.isascii():
            continue
        if not all(sign.isalpha() or sign in WITHIN for sign in core) or MISPLACED.search(core):
            return ""
        signs = [sign for sign in core if sign.isalpha()]
        high = sum(not sign.isascii() for sign in signs)
        if high == len(signs) > 2:  # as Cyrillic and Greek come out
            return ""
        if len(signs) > 1:
            letters, beyond = letters + len(signs), beyond + high
        if len(core) > len(example):
            example = core
    return "" if 4 * beyond > 3 * letters else example


def _beyond_ascii(path: Path) -> str:
    """The lines that are not ASCII, decoded, up to a limit; empty where they are no text in Windows-1252."""
    found = bytearray()
    with path.open("rb") as file:
        while len(found) < LOOKED_AT and (line := file.readline(LONGEST_LINE)):
            if not line.isascii():
                found += line
    if any(byte < 32 and byte not in b"\t\r\n" for byte in found):
        return ""
    return found.decode(WESTERN, "ignore")
