"""Make torchaudio importable with a CPU-only torch.

torchaudio's compiled extension is linked against CUDA, so `import torchaudio` raises OSError if torch was built without
it. Without the extension, torchaudio uses its pure Python code, which is all that metavox needs. If torch has CUDA, this
does nothing.
"""

import importlib.util
from pathlib import Path

import torch


def main() -> None:
    if torch.version.cuda is not None:
        return
    spec = importlib.util.find_spec("torchaudio")
    if spec is None or spec.origin is None:
        return
    for library in Path(spec.origin).parent.joinpath("lib").glob("*.so"):
        library.unlink()


if __name__ == "__main__":
    main()
