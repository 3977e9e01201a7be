"""Makes the small project available to the tests of this folder."""

from small_pipeline import project

__all__ = ["project"]
