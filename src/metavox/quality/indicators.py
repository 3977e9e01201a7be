"""Indicators for the quality gate: columns derived from a manifest, one for each kind of fault.

Each holds a number to compare with a limit, or None where nothing is wrong.
"""

import re
import unicodedata
from functools import lru_cache

import pandas as pd

LEVELS = ("peak", "rms_db", "dc_offset", "clipping", "silence", "snr_db", "bandwidth_hz")
MEASURED = ("duration_s", "sample_rate", *LEVELS)
DESCRIBED = (
    "path",
    "text",
    "speaker",
    "language",
    "speaker_group",
    "source",
    "split",
    "unit",
    "text_kind",
    "synthetic",
)
CACHED_TEXTS = 1 << 16  # many speakers say the same words
MIN_LABELLED_CLIPS = 20  # a set with fewer clips says nothing about balance

_SCRIPTS = {
    "LATIN": "ca cs cy da de en eo es et eu fi fr ga gl hr hu id is it la lg lt lug lv ms nb nds nl nn no pl"
    " pt ro sk sl sq sv sw tl tn tr vi wa",
    "CYRILLIC": "be bg kk mk ru uk",
    "CYRILLIC LATIN": "sr uz",
    "GREEK": "el",
    "ARABIC": "ar fa ur",
    "HEBREW": "he yi",
    "DEVANAGARI": "hi mr ne",
    "BENGALI": "bn",
    "GUJARATI": "gu",
    "GURMUKHI": "pa",
    "KANNADA": "kn",
    "MALAYALAM": "ml",
    "TAMIL": "ta",
    "TELUGU": "te",
    "THAI": "th",
    "GEORGIAN": "ka",
    "ARMENIAN": "hy",
    "HANGUL CJK": "ko",
    "CJK HIRAGANA KATAKANA": "ja",
    "CJK BOPOMOFO": "zh",
}
SCRIPTS = {code: tuple(scripts.split()) for scripts, codes in _SCRIPTS.items() for code in codes.split()}


@lru_cache(maxsize=4096)
def script_of(letter: str) -> str:
    """The script of a letter, which is the first word of its Unicode name: LATIN, CYRILLIC, CJK."""
    return unicodedata.name(letter, "UNNAMED").replace("-", " ").split()[0]


@lru_cache(maxsize=CACHED_TEXTS)
def foreign_script(text: str, language: str) -> str | None:
    """The most frequent script of the text, if fewer than half of its letters are in a script of the language.

    None for a text without letters and for a language that SCRIPTS does not list. Only the language part of a tag such
    as `pt_BR` or `sr@latin` counts.
    """
    expected = _scripts_for(language)
    scripts = [script_of(letter) for letter in text if letter.isalpha()]
    if not expected or not scripts or sum(script in expected for script in scripts) * 2 >= len(scripts):
        return None
    return max(sorted(set(scripts)), key=scripts.count)


def expected_scripts(language: str) -> str:
    return " or ".join(_scripts_for(language)) or "any"


def _scripts_for(language: str) -> tuple[str, ...]:
    return SCRIPTS.get(re.split("[-_@]", language.lower())[0], ())


@lru_cache(maxsize=CACHED_TEXTS)
def same_words(text: str) -> str:
    """The text without case, spaces and punctuation; texts that differ only in these do not contradict each other."""
    return "".join(sign for sign in text.casefold() if sign.isalnum() or unicodedata.category(sign)[0] == "M")


def manifest_indicators(rows: pd.DataFrame) -> pd.DataFrame:
    """Indicators from the manifest's own columns, before anything is measured, indexed from 0 in the order of the rows.

    Adds `words`; `group`, the speaker group or else the speaker; the number and the names of the splits of each speaker
    and group; `synthetic_split`, the split of synthetic rows; and `test_group`, the group of test rows.
    """
    table = rows[list(DESCRIBED)].reset_index(drop=True)
    for name in table.columns.drop("synthetic"):
        table[name] = table[name].fillna("").astype(str)
    table["words"] = table["text"].map(same_words)
    table["group"] = table["speaker_group"].where(table["speaker_group"] != "", table["speaker"])
    for identity in ("speaker", "group"):
        splits = table[table[identity] != ""].groupby(identity)["split"]
        table[f"{identity}_splits"] = table[identity].map(splits.nunique()).astype(float)
        names = splits.agg(lambda values: " and ".join(sorted(set(values))))
        table[f"{identity}_split_names"] = table[identity].map(names).astype(object).fillna("")
    table["synthetic_split"] = table["split"].where(table["synthetic"].astype(bool), None)
    table["test_group"] = table["group"].where((table["split"] == "test") & (table["group"] != ""), None)
    return table


def row_indicators(rows: pd.DataFrame) -> pd.DataFrame:
    """All indicators of a prepared manifest, indexed from 0 in the order of the rows.

    The measures of a recording that could not be decoded are empty, so that it has one fault, not nine.
    """
    table = manifest_indicators(rows)
    rows = rows.reset_index(drop=True)
    table["content"] = digests(rows)
    error = rows["error"].fillna("").astype(str)
    table["error"] = error.where(error != "", None)
    for name in MEASURED:
        table[name] = pd.to_numeric(rows[name], errors="coerce").astype(float).where(error == "")
    missing = table[list(MEASURED)].isna().any(axis=1) & (error == "")
    table["unmeasured"] = pd.Series("a measure is missing", index=table.index).where(missing, None)
    concept = table["text_kind"] == "concept"  # an English label, not the spoken words
    table["foreign_script"] = [
        None if skip else foreign_script(text, language)
        for text, language, skip in zip(table["text"], table["language"], concept, strict=True)
    ]
    characters = table["words"].str.len().astype(float)
    table["chars_per_s"] = (characters / table["duration_s"]).where((table["duration_s"] > 0) & ~concept)
    return _with_duplicates(table)


def digests(rows: pd.DataFrame) -> pd.Series:
    """The digest of each recording: of the decoded audio if there is one, else the manifest's; empty without either."""
    return rows["content" if "content" in rows.columns else "sha256"].fillna("").astype(str)


def with_balance(table: pd.DataFrame) -> pd.DataFrame:
    """Add `language_speakers`, the number of speaker groups of the row's language, without synthetic ones if there are
    real ones; and `label_share`, the share of the row's words in the clips of the same source, language and unit.

    A set has label shares only if it can be unbalanced: with at least two labels and MIN_LABELLED_CLIPS clips.
    """
    table = table.copy()
    known = table[(table["group"] != "") & (table["language"] != "")]
    real = known[~known["synthetic"].astype(bool)].groupby("language")["group"].nunique()
    speakers = known.groupby("language")["group"].nunique()
    table["language_speakers"] = table["language"].map(real.combine_first(speakers)).astype(float)
    labelled = table[table["words"] != ""]
    sets = labelled.groupby(["source", "language", "unit"])["words"]
    set_clips, set_labels = sets.transform("size"), sets.transform("nunique")
    clips = labelled.groupby(["source", "language", "unit", "words"])["words"].transform("size")
    shares = (clips / set_clips).where((set_labels > 1) & (set_clips >= MIN_LABELLED_CLIPS))
    table["label_share"] = shares.reindex(table.index)
    counts = clips.astype(str) + " of the " + set_clips.astype(str) + " "
    kind = (table["source"] + " " + table["language"] + " " + table["unit"]).str.split().str.join(" ")
    table["label_summary"] = "'" + table["words"] + "' is " + counts.reindex(table.index) + kind + " clips"
    return table


def _with_duplicates(table: pd.DataFrame) -> pd.DataFrame:
    """Add two paths: `duplicate_of`, the first row with the same recording, text and speaker; and `contradicts`, a row
    with the same recording under another text or speaker."""
    known = table[table["content"] != ""]
    same = known.groupby(["content", "words", "speaker"], sort=False)["path"]
    table["duplicate_of"] = same.transform("first").where(same.cumcount() > 0)
    first = known.drop_duplicates(["content", "words", "speaker"])
    disputed = first[first.duplicated("content", keep=False)]
    others = disputed.groupby("content", sort=False)["path"].agg(list).to_dict()
    table["contradicts"] = [
        next((other for other in others.get(content, ()) if other != path), None)
        for content, path in zip(table["content"], table["path"], strict=True)
    ]
    for name in ("duplicate_of", "contradicts"):
        table[name] = table[name].astype(object).where(table[name].notna(), None)
    return table
