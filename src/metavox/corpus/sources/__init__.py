"""Where recorded speech comes from: one parser a file."""

from metavox.corpus.sources import asterisk, gcin, klettres, pocketsphinx, queen, saytime
from metavox.corpus.sources.base import Source

SOURCES: dict[str, Source] = {
    module.SOURCE.name: module.SOURCE for module in (asterisk, gcin, klettres, pocketsphinx, queen, saytime)
}
