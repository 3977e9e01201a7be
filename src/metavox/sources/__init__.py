"""The known sources of recorded speech, one parser in each module."""

from metavox.sources import (
    asterisk,
    festvox,
    fillets,
    gcin,
    klettres,
    ktuberling,
    pocketsphinx,
    qabcs,
    queen,
    saytime,
    tuxpaint,
)
from metavox.sources.base import Source

MODULES = (
    asterisk,
    festvox,
    fillets,
    gcin,
    klettres,
    ktuberling,
    pocketsphinx,
    qabcs,
    queen,
    saytime,
    tuxpaint,
)
SOURCES: dict[str, Source] = {module.SOURCE.name: module.SOURCE for module in MODULES}
