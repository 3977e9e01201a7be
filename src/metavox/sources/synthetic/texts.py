"""Texts to speak, from a list, a manifest or CLDR. Texts that cannot be spoken are reported, never dropped silently."""

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
JOINERS = "\u200c\u200d"  # invisible, but part of the spelling in Persian and the languages of India
SPOKEN_SIGNS = "%&@#*/\\§¶†‡‰•_"  # that readers replace by a word, as they do all symbols
UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Refused:
    line: int | None
    text: str
    reason: str


@dataclass
class Texts:
    """The texts to speak, and the fate of all other texts."""

    accepted: list[Text] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    repeated: int = 0
    blank: int = 0
    left_out: Counter[str] = field(default_factory=Counter)  # by reason
    _seen: set[tuple[str, str]] = field(default_factory=set, repr=False)

    def add(
        self, text: str, languages: Iterable[str], line: int | None, unit: str = "", license: str = ""
    ) -> None:
        """Accept or refuse the text in each language, given as espeak's codes."""
        for language in languages:
            try:
                prompt = to_prompt(text, language, unit, license)
            except ValueError as error:
                refused = Refused(line, text[:80], str(error))
                if refused not in self.refused[-1:]:  # often the same reason in every language
                    self.refused.append(refused)
                continue
            if (prompt.language, prompt.text) in self._seen:
                self.repeated += 1
            else:
                self._seen.add((prompt.language, prompt.text))
                self.accepted.append(prompt)


def to_prompt(text: str, language: str, unit: str = "", license: str = "") -> Text:
    """The text as it will be spoken, with single digits spelled out and invisible characters removed.

    `text_kind` is inferred if numbers or symbols remain, because it is unknown how espeak-ng reads them. Raises ValueError
    with the reason why a text cannot be spoken.
    """
    text = unicodedata.normalize("NFC", text)
    for c in text:
        if unicodedata.category(c) in ("Cc", "Cn") and c not in "\t\r\n":
            raise ValueError(f"U+{ord(c):04X} is not a printable character")
    visible = (c for c in text if unicodedata.category(c) != "Cf" or c in JOINERS)
    text = " ".join("".join(visible).split())
    if not any(c.isalnum() for c in text):
        raise ValueError("it contains no letter or digit" if text else "it is empty")
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"{len(text)} characters; expected at most {MAX_CHARACTERS}")
    readable = scripts(language)
    unreadable = {c: None for c in text if readable and c.isalpha() and script_of(c) not in readable}
    if unreadable:
        raise ValueError(f"espeak-ng cannot read {''.join(list(unreadable)[:8])} in {language}")
    code = manifest_language(language)
    spelled = spell_digits(text, code)
    text = spelled or text
    signs = any(unicodedata.category(c)[0] == "S" or c in SPOKEN_SIGNS for c in text)
    return Text(
        text,
        language,
        _unit(text, code, unit),
        "inferred" if spelled is None or signs else "spoken",
        f"{LICENSE}; text: {license}" if license and license != LICENSE else LICENSE,
    )


def _unit(text: str, language: str, declared: str) -> str:
    unit = unit_of(text, language)
    if unit == "digit" or all(len(word) == 1 and word.isdigit() for word in text.split()):
        return "digit"
    return declared if declared in UNITS else unit


def of_list(path: Path, languages: Sequence[str] = (), license: str = "") -> Texts:
    """The texts of a UTF-8 file with one text per line, spoken in each of `languages`, or language<TAB>text.

    A line that cannot be spoken is refused. Raises UserError if the file as a whole is not such a list.
    """
    if not path.is_file():
        raise UserError(f"words {path}: no such file; expected one text per line, or language<TAB>text")
    data = path.read_bytes()
    if data.startswith(UTF16_MARKS) or b"\0" in data:
        raise UserError(f"words {path}: UTF-16 or not a text file; save it as UTF-8")
    codes = [find_language(language) for language in languages]
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
            _add(texts, text, own, codes, number, license=license)
        elif codes:
            texts.add(line, codes, number, license=license)
        else:
            raise UserError(
                f"words {path}: line {number} has no language; give --language, or write language<TAB>text"
            )
    return texts


def of_manifest(path: Path, languages: Sequence[str] = ()) -> Texts:
    """The different texts of a manifest's training rows in `languages`, or in all languages.

    Texts of dev and test rows are left out, because training must not contain them. So are texts whose kind is not
    spoken, because the recording may say something else.
    """
    path = path / "manifest.csv" if path.is_dir() else path
    codes = [find_language(language) for language in languages]
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
            _add(texts, text, language, codes, number, unit, license)
    return texts


def of_profile(synthetic: Synthetic) -> list[Text]:
    """The words and texts of a profile. Raises UserError for the first line of its list that cannot be spoken."""
    texts = Texts()
    if synthetic.words:
        texts = of_cldr(synthetic.languages, synthetic.words, synthetic.seed, synthetic.longest)
    if synthetic.texts:
        listed = of_list(synthetic.texts, synthetic.languages)
        for refused in listed.refused:
            raise UserError(f"{synthetic.texts}: line {refused.line}: {refused.reason}")
        texts.accepted += listed.accepted
    return list({(text.language, text.text): text for text in texts.accepted}.values())


def of_recorded(rows: Iterable[Mapping[str, object]]) -> Texts:
    """The words and letters of recorded training rows in the languages that espeak-ng speaks, without digits."""
    texts = Texts()
    for row in rows:
        if row["split"] != "train" or row["unit"] not in ("word", "letter") or row["text_kind"] != "spoken":
            continue
        try:
            code = find_language(str(row["language"]))
        except UserError:
            texts.left_out["language"] += 1
            continue
        texts.add(str(row["text"]), [code], None, str(row["unit"]))
    return texts


def of_cldr(languages: Sequence[str], count: int, seed: int, longest: int = MAX_LETTERS) -> Texts:
    """Up to `count` everyday words of each language. Raises UserError for a language without words in CLDR."""
    texts = Texts()
    for language in languages:
        code = find_language(language)
        for word in words_of(manifest_language(code), count, seed, longest):
            texts.add(word, [code], None, "word")
    return texts


def _add(
    texts: Texts, text: str, own: str, requested: list[str], line: int, unit: str = "", license: str = ""
) -> None:
    """Add a text that may have its `own` language: in that language, or in the `requested` accents of it."""
    own = own.strip()
    try:
        codes = [find_language(own)] if own else requested
    except UserError as error:
        if not requested:
            texts.refused.append(Refused(line, text[:80], str(error)))
            return
        codes = []
    if own and requested:
        codes = [code for code in requested if manifest_language(code) in map(manifest_language, codes)]
        if not codes:
            texts.left_out["another language"] += 1
    elif not codes:
        texts.refused.append(Refused(line, text[:80], "it has no language"))
    texts.add(text, codes, line, unit, license)
