"""The languages that espeak-ng speaks, and the scripts that it can read in each."""

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

MIN_LETTERS = 300  # of a language in CLDR, to determine its scripts
RARE_SHARE = 0.01
# Languages for which espeak-ng does not read the usual scripts, or reads more.
SCRIPTS = {"ja": {"HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"}, "sr": {"CYRILLIC", "LATIN"}}
SUBTAG_SCRIPTS = {"latn": {"LATIN"}, "shaw": {"SHAVIAN"}}


@dataclass(frozen=True)
class Language:
    code: str
    name: str
    aliases: tuple[str, ...] = ()


@cache
def languages() -> dict[str, Language]:
    """espeak's code -> language, sorted, without languages whose pronunciation dictionary is not in the wheel."""
    data = Path(espeakng_loader.get_data_path())
    settings: dict[str, dict[str, list[str]]] = {}
    for path in (data / "lang").rglob("*"):
        if path.is_file():
            settings[path.name.lower()] = _settings(path.read_text(encoding="utf-8", errors="replace"))
    priorities: dict[str, list[tuple[int, str]]] = {}
    for code, values in settings.items():
        for line in values.get("language", []):
            alias, *priority = line.lower().split()
            priorities.setdefault(alias, []).append((int(priority[0]) if priority else 5, code))
    preferred = {alias: min(candidates)[1] for alias, candidates in priorities.items()}
    by_code = {}
    for code, values in sorted(settings.items()):
        dictionary = values.get("dictionary", [code.split("-")[0]])[0]
        if (data / f"{dictionary}_dict").is_file():
            aliases = sorted(a for a, c in preferred.items() if c == code and a not in settings)
            by_code[code] = Language(code, values["name"][0].split("//")[0].strip(), tuple(aliases))
    return by_code


def _settings(text: str) -> dict[str, list[str]]:
    settings: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)[ \t]+(.+?)[ \t]*$", text, re.MULTILINE):
        settings.setdefault(key, []).append(value)
    return settings


def find_language(name: str) -> str:
    """espeak's code for a code or alias (such as zh) in any case. Raises UserError that names similar languages."""
    key = name.strip().lower().replace("_", "-")
    if key in languages():
        return key
    codes: dict[str, str] = {}
    for language in languages().values():
        for alias in language.aliases:
            if alias == key:
                return language.code
        for word in (language.code, *language.aliases, *re.findall(r"\w{3,}", language.name.lower())):
            codes.setdefault(word, language.code)
    near = list(dict.fromkeys(codes[w] for w in difflib.get_close_matches(key, codes, n=6, cutoff=0.6)))
    base = key.split("-")[0]
    near += [code for code in languages() if code.split("-")[0] == base and code not in near]
    near = near or [code for code in languages() if len(code) == 2 and code[0] == key[:1]]
    names = ", ".join(f"{code} ({languages()[code].name})" for code in near[:4])
    raise UserError(
        f"language {name}: espeak-ng has no such language; "
        f"similar: {names or 'none'}; `metavox corpus speak --list` shows all"
    )


@cache
def scripts(language: str) -> frozenset[str]:
    """The scripts, by their Unicode names, that espeak-ng reads in this language; empty if unknown.

    espeak-ng would spell the letters of another script by name, or read them in another language.
    """
    base = manifest_language(language)
    for subtag in language.split("-")[1:]:
        if subtag in SUBTAG_SCRIPTS:
            return frozenset(SUBTAG_SCRIPTS[subtag])
    if base in SCRIPTS:
        return frozenset(SCRIPTS[base])
    letters = Counter(script_of(c) for name in names_of(base) for c in name if c.isalpha())
    if letters.total() < MIN_LETTERS:
        return frozenset()
    usual = {script for script, count in letters.items() if count > RARE_SHARE * letters.total()}
    return frozenset(usual | {"MODIFIER"})
