"""Makes torchaudio importable beside a CPU-only torch.

Its compiled extension is linked against CUDA, so `import torchaudio` raises OSError where torch has none.
Without the extension torchaudio takes its pure Python paths, which are all that metavox uses. Where torch has
CUDA, nothing is done.
"""

import importlib.util
from pathlib import Path

import torch


def main() -> None:
    if torch.version.cuda is not None:
        return
    found = importlib.util.find_spec("torchaudio")
    if found is None or found.origin is None:
        return
    for library in Path(found.origin).parent.joinpath("lib").glob("*.so"):
        library.unlink()


if __name__ == "__main__":
    main()
