"""A running service for a block of code: what the demo and the tests talk to."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from metavox.serve.process import bundle_target, free_port, model_target, serving


@contextmanager
def running_service(bundle: Path, store: Path, deltas: Sequence[Path] = ()) -> Iterator[str]:
    """Serve a bundle (a file or an unpacked one) or a model folder, and deltas beside its store; yields its address.

    Listens on a free loopback port. Raises UserError, with its log's last lines, when it does not come up.
    """
    target = model_target(bundle) if (bundle / "config.json").is_file() else bundle_target(bundle)
    with serving(target, "127.0.0.1", free_port(), store, deltas) as server:
        yield server.address
