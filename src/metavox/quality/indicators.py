"""What the quality gate looks at: columns worked out of a manifest, one per kind of fault.

Each holds a number to be compared with a limit, or None where nothing is wrong.
"""

import re
import unicodedata
from functools import lru_cache

import pandas as pd

LEVELS = ("peak", "rms_db", "dc_offset", "clipping", "silence", "snr_db", "bandwidth_hz")
MEASURED = ("duration_s", "sample_rate", *LEVELS)
CLAIMED = (
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
TEXTS = 1 << 16  # looked at once: most words are said by many speakers
LABELLED = 20  # clips of a set: fewer say nothing of its balance

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
    """The first word of its Unicode name, which is the script for every letter: LATIN, CYRILLIC, CJK."""
    return unicodedata.name(letter, "UNNAMED").replace("-", " ").split()[0]


@lru_cache(maxsize=TEXTS)
def foreign_script(text: str, language: str) -> str | None:
    """The script most of the letters are in, when fewer than half are in one the language is written in.

    A text without letters, and a language not in the table, pass. Only the language part of a tag such as
    `pt_BR` or `sr@latin` counts.
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


@lru_cache(maxsize=TEXTS)
def same_words(text: str) -> str:
    """The text without case, spaces and punctuation: two texts that differ in these do not contradict."""
    return "".join(sign for sign in text.casefold() if sign.isalnum() or unicodedata.category(sign)[0] == "M")


def claims(rows: pd.DataFrame) -> pd.DataFrame:
    """What a manifest claims, before anything is measured; numbered from 0 in the order of the rows.

    Adds `words` and `who`, on how many splits a speaker and a person are, and which; where synthetic rows are.
    """
    table = rows[list(CLAIMED)].reset_index(drop=True)
    for name in table.columns.drop("synthetic"):
        table[name] = table[name].fillna("").astype(str)
    table["words"] = table["text"].map(same_words)
    table["who"] = table["speaker_group"].where(table["speaker_group"] != "", table["speaker"])
    for one in ("speaker", "who"):
        sides = table[table[one] != ""].groupby(one)["split"]
        table[f"{one}_splits"] = table[one].map(sides.nunique()).astype(float)
        named = sides.agg(lambda splits: " and ".join(sorted(set(splits))))
        table[f"{one}_sides"] = table[one].map(named).astype(object).fillna("")
    table["synthetic_split"] = table["split"].where(table["synthetic"].astype(bool), None)
    table["test_who"] = table["who"].where((table["split"] == "test") & (table["who"] != ""), None)
    return table


def symptoms(rows: pd.DataFrame) -> pd.DataFrame:
    """The claims and the measures of each row, numbered alike; needs the columns of a prepared manifest.

    The measures of a recording that could not be decoded are empty: it has one fault, not nine.
    """
    table = claims(rows)
    rows = rows.reset_index(drop=True)
    table["content"] = digests(rows)
    error = rows["error"].fillna("").astype(str)
    table["error"] = error.where(error != "", None)
    for name in MEASURED:
        table[name] = pd.to_numeric(rows[name], errors="coerce").astype(float).where(error == "")
    missing = table[list(MEASURED)].isna().any(axis=1) & (error == "")
    table["unmeasured"] = pd.Series("a measure is missing", index=table.index).where(missing, None)
    concept = table["text_kind"] == "concept"  # an English id, not the words that are said
    table["foreign_script"] = [
        None if skip else foreign_script(text, language)
        for text, language, skip in zip(table["text"], table["language"], concept, strict=True)
    ]
    spoken = table["words"].str.len().astype(float)
    table["chars_per_s"] = (spoken / table["duration_s"]).where((table["duration_s"] > 0) & ~concept)
    return _with_twins(table)


def digests(rows: pd.DataFrame) -> pd.Series:
    """Of each recording: what was measured, or else what the manifest says; empty where neither does."""
    return rows["content" if "content" in rows.columns else "sha256"].fillna("").astype(str)


def with_balance(table: pd.DataFrame) -> pd.DataFrame:
    """Add `language_speakers`: people who speak the row's language, real ones where there are any; and
    `label_share`: of the clips of the same source, language and unit, those under the row's words.

    A share is only told of sets that have labels to be unbalanced: at least two, and at least LABELLED clips.
    """
    table = table.copy()
    known = table[(table["who"] != "") & (table["language"] != "")]
    real = known[~known["synthetic"].astype(bool)].groupby("language")["who"].nunique()
    speakers = known.groupby("language")["who"].nunique()
    table["language_speakers"] = table["language"].map(real.combine_first(speakers)).astype(float)
    sets = table[table["words"] != ""].groupby(["source", "language", "unit"])
    clips, labels = sets["words"].transform("size"), sets["words"].transform("nunique")
    held = (
        table[table["words"] != ""]
        .groupby(["source", "language", "unit", "words"])["words"]
        .transform("size")
    )
    shares = (held / clips).where((labels > 1) & (clips >= LABELLED))
    table["label_share"] = shares.reindex(table.index)
    told = held.astype(str) + " of the " + clips.astype(str) + " "
    kind = (table["source"] + " " + table["language"] + " " + table["unit"]).str.split().str.join(" ")
    table["label_told"] = "'" + table["words"] + "' is " + told.reindex(table.index) + kind + " clips"
    return table


def _with_twins(table: pd.DataFrame) -> pd.DataFrame:
    """Add `twin`: the first row of the same recording, text and speaker; `contradicts`: one that differs."""
    known = table[table["content"] != ""]
    same = known.groupby(["content", "words", "speaker"], sort=False)["path"]
    table["twin"] = same.transform("first").where(same.cumcount() > 0)
    first = known.drop_duplicates(["content", "words", "speaker"])
    disputed = first[first.duplicated("content", keep=False)]
    others = disputed.groupby("content", sort=False)["path"].agg(list).to_dict()
    table["contradicts"] = [
        next((other for other in others.get(content, ()) if other != path), None)
        for content, path in zip(table["content"], table["path"], strict=True)
    ]
    for name in ("twin", "contradicts"):
        table[name] = table[name].astype(object).where(table[name].notna(), None)
    return table
