"""The languages that espeak-ng speaks, and which scripts it can read in each."""

import difflib
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import espeakng_loader

from metavox.errors import UserError
from metavox.sources.synthetic.espeak import manifest_language
from metavox.sources.synthetic.words import names_of, script_of

ENOUGH_LETTERS = 300  # of a language in CLDR, to tell its scripts by them
RARE = 0.01
# Where espeak-ng does not read what is usual, or also reads something else.
READS = {"ja": {"HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"}, "sr": {"CYRILLIC", "LATIN"}}
SUBTAGS = {"latn": {"LATIN"}, "shaw": {"SHAVIAN"}}


@dataclass(frozen=True)
class Language:
    code: str
    name: str
    aliases: tuple[str, ...] = ()


@cache
def languages() -> dict[str, Language]:
    """By espeak's code, sorted; those without a pronouncing dictionary in the wheel are left out."""
    data = Path(espeakng_loader.get_data_path())
    settings: dict[str, dict[str, list[str]]] = {}
    for path in (data / "lang").rglob("*"):
        if path.is_file():
            settings[path.name.lower()] = _settings(path.read_text(encoding="utf-8", errors="replace"))
    claims: dict[str, list[tuple[int, str]]] = {}
    for code, found in settings.items():
        for line in found.get("language", []):
            alias, *priority = line.lower().split()
            claims.setdefault(alias, []).append((int(priority[0]) if priority else 5, code))
    preferred = {alias: min(claim)[1] for alias, claim in claims.items()}
    out = {}
    for code, found in sorted(settings.items()):
        dictionary = found.get("dictionary", [code.split("-")[0]])[0]
        if (data / f"{dictionary}_dict").is_file():
            aliases = sorted(a for a, c in preferred.items() if c == code and a not in settings)
            out[code] = Language(code, found["name"][0].split("//")[0].strip(), tuple(aliases))
    return out


def _settings(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)[ \t]+(.+?)[ \t]*$", text, re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


def find_language(asked: str) -> str:
    """espeak's code of what was asked for, in any case, aliases such as zh too; UserError names near ones."""
    wanted = asked.strip().lower().replace("_", "-")
    if wanted in languages():
        return wanted
    called: dict[str, str] = {}
    for language in languages().values():
        for alias in language.aliases:
            if alias == wanted:
                return language.code
        for word in (language.code, *language.aliases, *re.findall(r"\w{3,}", language.name.lower())):
            called.setdefault(word, language.code)
    near = list(dict.fromkeys(called[w] for w in difflib.get_close_matches(wanted, called, n=6, cutoff=0.6)))
    base = wanted.split("-")[0]
    near += [code for code in languages() if code.split("-")[0] == base and code not in near]
    near = near or [code for code in languages() if len(code) == 2 and code[0] == wanted[:1]]
    names = ", ".join(f"{code} ({languages()[code].name})" for code in near[:4])
    raise UserError(
        f"language {asked}: espeak-ng has no such language; "
        f"near it: {names or 'none'}; `metavox corpus speak --list` shows all"
    )


@cache
def scripts(language: str) -> frozenset[str]:
    """Scripts that espeak-ng reads as this language, as Unicode names letters; empty where it is not known.

    Letters of another script would be spelled by their names, or said as another language.
    """
    base = manifest_language(language)
    for subtag in language.split("-")[1:]:
        if subtag in SUBTAGS:
            return frozenset(SUBTAGS[subtag])
    if base in READS:
        return frozenset(READS[base])
    letters = Counter(script_of(c) for name in names_of(base) for c in name if c.isalpha())
    if letters.total() < ENOUGH_LETTERS:
        return frozenset()
    usual = {script for script, count in letters.items() if count > RARE * letters.total()}
    return frozenset(usual | {"MODIFIER"})
