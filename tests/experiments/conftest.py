"""The fixture `project`, a small pipeline in which stages can run."""

from small_pipeline import project

__all__ = ["project"]
