"""Recordings somebody brings: read in the layout they come in, judged, and added to the corpus."""

from metavox.ingest.incoming import LAYOUTS, AddOptions
from metavox.ingest.ingestion import Added, add

__all__ = ["LAYOUTS", "AddOptions", "Added", "add"]
