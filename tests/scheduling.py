"""Which tests share a worker, and in which order they run."""

from xdist.scheduler import LoadFileScheduling

# Each of these starts a server or builds a project once for all its tests. They take longest, so they start first:
# whatever starts last decides when the run ends.
SHARING = ("tests/e2e/", "tests/serve/", "tests/flows/")


class LoadByFixture(LoadFileScheduling):
    """Hands out one file at a time, but a whole folder where its files share an expensive fixture."""

    def _split_scope(self, nodeid: str) -> str:
        return next((folder for folder in SHARING if nodeid.startswith(folder)), super()._split_scope(nodeid))


def longest_first(nodeid: str) -> int:
    """A sort key that keeps the order within a folder."""
    positions = (position for position, folder in enumerate(SHARING) if nodeid.startswith(folder))
    return next(positions, len(SHARING))
