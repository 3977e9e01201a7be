"""The small pipeline, ready to run a stage in."""

from small_pipeline import project

__all__ = ["project"]
