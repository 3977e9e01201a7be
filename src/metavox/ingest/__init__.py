"""Adds recordings to the corpus: reads them in the layout they come in, checks them, and stores what passes."""

from metavox.ingest.incoming import LAYOUTS, AddOptions
from metavox.ingest.ingestion import AddResult, add

__all__ = ["LAYOUTS", "AddOptions", "AddResult", "add"]
