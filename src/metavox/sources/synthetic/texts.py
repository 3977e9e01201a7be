"""Texts to speak: from a list, from a manifest, or from CLDR; what cannot be said is named, never dropped."""

import codecs
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from metavox.dataset.manifest import read_manifest
from metavox.errors import UserError
from metavox.sources.base import spell_digits, unit_of
from metavox.sources.profile import Synthetic
from metavox.sources.synthetic.espeak import LICENSE, Text, manifest_language
from metavox.sources.synthetic.languages import find_language, scripts
from metavox.sources.synthetic.words import MAX_LETTERS, script_of, words_of

MAX_CHARACTERS = 2000  # about two minutes
UNITS = ("digit", "letter", "word", "sentence")
JOINERS = "\u200c\u200d"  # not seen, but a part of the spelling in Persian and the languages of India
SAID_SIGNS = "%&@#*/\\§¶†‡‰•_"  # besides all symbols: what a reader says a word for
WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Refused:
    line: int | None
    text: str
    reason: str


@dataclass
class Texts:
    """What will be said, and what became of everything else."""

    said: list[Text] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    repeated: int = 0
    blank: int = 0
    left_out: Counter[str] = field(default_factory=Counter)  # by reason
    _seen: set[tuple[str, str]] = field(default_factory=set, repr=False)

    def take(
        self, text: str, languages: Iterable[str], line: int | None, unit: str = "", license: str = ""
    ) -> None:
        """Add the text in each language, espeak's codes; or the reason why not."""
        for language in languages:
            try:
                said = to_say(text, language, unit, license)
            except ValueError as error:
                refused = Refused(line, text[:80], str(error))
                if refused not in self.refused[-1:]:  # often the same one in every language
                    self.refused.append(refused)
                continue
            if (said.language, said.text) in self._seen:
                self.repeated += 1
            else:
                self._seen.add((said.language, said.text))
                self.said.append(said)


def to_say(text: str, language: str, unit: str = "", license: str = "") -> Text:
    """The text as it will be spoken: lone digits spelled out, characters that are not seen taken out.

    Where figures or symbols are left, what espeak-ng says for them is not known: `text_kind` is inferred.
    Raises ValueError with the reason why it cannot be said.
    """
    text = unicodedata.normalize("NFC", text)
    for c in text:
        if unicodedata.category(c) in ("Cc", "Cn") and c not in "\t\r\n":
            raise ValueError(f"U+{ord(c):04X} is no printable character")
    seen = (c for c in text if unicodedata.category(c) != "Cf" or c in JOINERS)
    said = " ".join("".join(seen).split())
    if not any(c.isalnum() for c in said):
        raise ValueError("there is no letter or figure in it" if said else "it is empty")
    if len(said) > MAX_CHARACTERS:
        raise ValueError(f"{len(said)} characters; expected at most {MAX_CHARACTERS}")
    readable = scripts(language)
    odd = {c: None for c in said if readable and c.isalpha() and script_of(c) not in readable}
    if odd:
        raise ValueError(f"espeak-ng does not read {''.join(list(odd)[:8])} in {language}")
    code = manifest_language(language)
    spelled = spell_digits(said, code)
    said = spelled or said
    signs = any(unicodedata.category(c)[0] == "S" or c in SAID_SIGNS for c in said)
    return Text(
        said,
        language,
        _unit(said, code, unit),
        "inferred" if spelled is None or signs else "spoken",
        f"{LICENSE}; text: {license}" if license and license != LICENSE else LICENSE,
    )


def _unit(text: str, language: str, given: str) -> str:
    found = unit_of(text, language)
    if found == "digit" or all(len(word) == 1 and word.isdigit() for word in text.split()):
        return "digit"
    return given if given in UNITS else found


def of_list(path: Path, asked: Sequence[str] = (), license: str = "") -> Texts:
    """One text a line, UTF-8, said in each language asked for; or language<TAB>text.

    Raises UserError for a file that is no such list as a whole; a line that cannot be said is refused.
    """
    if not path.is_file():
        raise UserError(f"words {path}: there is no such file; expected a text a line, or language<TAB>text")
    data = path.read_bytes()
    if data.startswith(WIDE) or b"\0" in data:
        raise UserError(f"words {path}: is UTF-16 or no text at all; expected UTF-8, save it so")
    codes = [find_language(language) for language in asked]
    texts = Texts()
    lines = data.removeprefix(codecs.BOM_UTF8).removesuffix(b"\n").split(b"\n")
    for number, raw in enumerate(lines, start=1):
        try:
            line = raw.decode("utf-8").rstrip("\r")
        except UnicodeDecodeError:
            texts.refused.append(Refused(number, raw.decode("utf-8", "replace")[:80], "it is not UTF-8"))
            continue
        own, tab, text = line.partition("\t")
        if not line.strip():
            texts.blank += 1
        elif "\t" in text:
            reason = f"{line.count(chr(9)) + 1} columns; expected a text, or language<TAB>text"
            texts.refused.append(Refused(number, line[:80], reason))
        elif tab:
            _take(texts, text, own, codes, number, license=license)
        elif codes:
            texts.take(line, codes, number, license=license)
        else:
            raise UserError(
                f"words {path}: line {number} names no language; give --language, or write language<TAB>text"
            )
    return texts


def of_manifest(path: Path, asked: Sequence[str] = ()) -> Texts:
    """The texts of a manifest's training rows, of the languages asked for or all, each once.

    Those of dev and test are left out: what is asked there must not be heard in training. So are texts that
    are not sure to be what a recording says.
    """
    path = path / "manifest.csv" if path.is_dir() else path
    codes = [find_language(language) for language in asked]
    texts = Texts()
    rows = read_manifest(path)
    columns = ("text", "language", "split", "unit", "text_kind", "license")
    for number, row in enumerate(rows[list(columns)].itertuples(index=False), start=2):
        text, language, split, unit, kind, license = map(str, row)
        if split in ("dev", "test"):
            texts.left_out[f"split {split}"] += 1
        elif kind not in ("spoken", ""):
            texts.left_out[f"text_kind {kind}"] += 1
        else:
            _take(texts, text, language, codes, number, unit, license)
    return texts


def of_profile(synthetic: Synthetic) -> list[Text]:
    """The words and texts of a profile; UserError names the first line of its list that cannot be said."""
    asked = (synthetic.languages, synthetic.words, synthetic.seed, synthetic.longest)
    texts = of_cldr(*asked) if synthetic.words else Texts()
    if synthetic.texts:
        listed = of_list(synthetic.texts, synthetic.languages)
        for refused in listed.refused:
            raise UserError(f"{synthetic.texts}: line {refused.line}: {refused.reason}")
        texts.said += listed.said
    return list({(text.language, text.text): text for text in texts.said}.values())


def of_recorded(rows: Iterable[Mapping[str, object]]) -> Texts:
    """Words and letters that recorded voices for training say, in the languages that espeak-ng speaks; no digits."""
    texts = Texts()
    for row in rows:
        if row["split"] != "train" or row["unit"] not in ("word", "letter") or row["text_kind"] != "spoken":
            continue
        try:
            code = find_language(str(row["language"]))
        except UserError:
            texts.left_out["language"] += 1
            continue
        texts.take(str(row["text"]), [code], None, str(row["unit"]))
    return texts


def of_cldr(languages: Sequence[str], count: int, seed: int, longest: int = MAX_LETTERS) -> Texts:
    """Up to `count` everyday words of each language; UserError for one that CLDR has no words of."""
    texts = Texts()
    for language in languages:
        code = find_language(language)
        for word in words_of(manifest_language(code), count, seed, longest):
            texts.take(word, [code], None, "word")
    return texts


def _take(
    texts: Texts, text: str, own: str, asked: list[str], line: int, unit: str = "", license: str = ""
) -> None:
    """A text that names its language itself is said in that, or in the accents of it that were asked for."""
    own = own.strip()
    try:
        codes = [find_language(own)] if own else asked
    except UserError as error:
        if not asked:
            texts.refused.append(Refused(line, text[:80], str(error)))
            return
        codes = []
    if own and asked:
        codes = [code for code in asked if manifest_language(code) in map(manifest_language, codes)]
        if not codes:
            texts.left_out["another language"] += 1
    elif not codes:
        texts.refused.append(Refused(line, text[:80], "it names no language"))
    texts.take(text, codes, line, unit, license)
