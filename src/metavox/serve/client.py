"""A running service for the length of a block, for the demo and the tests."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from metavox.serve.process import bundle_target, free_port, model_target, serving


@contextmanager
def running_service(bundle: Path, store: Path, deltas: Sequence[Path] = ()) -> Iterator[str]:
    """Serve a bundle (a file or an unpacked folder) or a model folder, with `deltas` beside its store; yield the address.

    The service listens on a free loopback port. Raises UserError, with the last lines of the log, when it does not start.
    """
    target = model_target(bundle) if (bundle / "config.json").is_file() else bundle_target(bundle)
    with serving(target, "127.0.0.1", free_port(), store, deltas) as server:
        yield server.address
