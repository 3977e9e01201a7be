"""Recordings somebody brings: read in the layout they come in, judged, and added to the corpus."""

from metavox.corpus.add.adding import Added, add
from metavox.corpus.add.incoming import LAYOUTS, AddOptions

__all__ = ["LAYOUTS", "AddOptions", "Added", "add"]
