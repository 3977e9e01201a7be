"""Options of decoding that several commands share: the beam, hot words, and language models."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metavox.errors import UserError

if TYPE_CHECKING:
    from metavox.recognisers.guide import Guide
    from metavox.recognition.hot_words import HotWords

BEAM = 5  # of a search that hot words or a language model need

Beam = Annotated[
    int,
    typer.Option(min=0, help="Texts that the decoder keeps; 0 takes 5 with hot words or a model, else 1."),
]
HotWord = Annotated[
    list[str], typer.Option("--hot-word", help="A word or phrase to prefer; may be repeated.")
]
HotWordsFile = Annotated[
    Path | None, typer.Option("--hot-words", help="A file with one word or phrase per line.")
]
HotWordWeight = Annotated[
    float, typer.Option(min=0.0, help="How much a character of a hot word counts, in nats.")
]
ModelFile = Annotated[
    Path | None, typer.Option("--language-model", help="An n-gram language model in ARPA form.")
]
ModelWeight = Annotated[
    float,
    typer.Option(
        "--language-model-weight",
        min=0.0,
        help="How much the language model counts; 0.05 suits a Whisper, about 0.5 a CTC base.",
    ),
]
TextsFile = Annotated[
    Path | None,
    typer.Option(
        "--texts", help="Texts like those to expect, one per line; a language model is learned from them."
    ),
]


@dataclass(frozen=True)
class Search:
    """What the options ask for."""

    beam: int
    guide: "Guide | None"
    hot_words: "HotWords | None"


def search_of(
    beam: int,
    hot_word: list[str],
    hot_words: Path | None,
    weight: float,
    model: Path | None,
    texts: Path | None,
    model_weight: float = 0.05,
) -> Search:
    """Read the files that the options name. Raises UserError for one that cannot be used."""
    from metavox.recognisers.guide import Together
    from metavox.recognition.hot_words import HotWords
    from metavox.recognition.language_model import LanguageModel, estimate, read_arpa

    phrases = [*hot_word, *(_lines(hot_words) if hot_words else [])]
    hot = HotWords(phrases, weight) if phrases else None
    models = [read_arpa(model)] if model else []
    models += [estimate(_lines(texts))] if texts else []
    guides = [*([hot] if hot else []), *([LanguageModel(models, model_weight)] if models else [])]
    guide = guides[0] if len(guides) == 1 else Together(guides) if guides else None
    return Search(beam or (BEAM if guides else 1), guide, hot)


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text; convert it") from error
    return [line.strip() for line in lines if line.strip()]
