"""Measure seconds and peak memory of `prepare`, `validate` and `corpus add` on one and on several copies of a corpus.

    python benchmarks/corpus.py --data data --copies 5

Run it from the project folder, which needs disk space for `--copies` copies of the corpus. Each copy of a recording has
different bytes after its end, so its content is new to the quality gate while its sound stays the same.

Columns:

    Nx s           seconds of the command on N copies
    Nx MB          peak memory: the largest sum of the unique set sizes of the command's processes, in ten samples a second
    time ratio     seconds on all copies over seconds on one
    memory ratio   the same for memory
"""

import argparse
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil

from metavox.audio.read import read_bytes
from metavox.dataset.manifest import read_manifest, write_manifest

METAVOX = str(Path(sys.executable).parent / "metavox")
ADDED = 100  # recordings in the larger `corpus add`


@dataclass(frozen=True)
class Cost:
    seconds: float
    peak_mb: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--copies", type=int, default=5)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--json", type=Path, help="also write the measurements to this file")
    args = parser.parse_args()
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="metavox-benchmark-", dir=".") as temporary:
        for copies in (1, args.copies):
            project = Path(temporary).absolute() / str(copies)
            rows = copy_corpus(args.data, project / "data", copies)
            shutil.copy(args.params, project / "params.yaml")
            for name, cost in measure(project, rows).items():
                results.setdefault(name, {})[f"{copies}x s"] = round(cost.seconds, 1)
                results[name][f"{copies}x MB"] = round(cost.peak_mb)
            shutil.rmtree(project)
    table = pd.DataFrame(results).T
    table["time ratio"] = (table[f"{args.copies}x s"] / table["1x s"]).round(2)
    table["memory ratio"] = (table[f"{args.copies}x MB"] / table["1x MB"]).round(2)
    print(table.to_string())
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


def copy_corpus(data: Path, out: Path, copies: int) -> pd.DataFrame:
    """Write a corpus with `copies` copies of each recording, and return its manifest."""
    rows = read_manifest(data / "manifest.csv")
    tables = []
    for copy in range(copies):
        folder = out / f"shards-{copy}"
        folder.mkdir(parents=True)
        for shard in sorted((data / "shards").glob("*.tar")):
            copy_shard(shard, folder / shard.name, bytes(copy))
        path = rows["path"].str.replace("shards/", f"shards-{copy}/", n=1)
        tables.append(rows.assign(path=path, sha256=rows["sha256"] + f"-{copy}" * bool(copy)))
    manifest = pd.concat(tables).sort_values("path", ignore_index=True)
    write_manifest(manifest, out / "manifest.csv")
    return manifest


def copy_shard(source: Path, target: Path, suffix: bytes) -> None:
    """Copy a shard, with `suffix` appended to each recording."""
    with tarfile.open(source) as old, tarfile.open(target, "w") as new:
        for member in old:
            file = old.extractfile(member)
            assert file is not None
            content = file.read() + suffix
            member.size = len(content)
            new.addfile(member, io.BytesIO(content))


def measure(project: Path, rows: pd.DataFrame) -> dict[str, Cost]:
    """The cost of each command in a project, whose corpus grows by the recordings added."""
    few, many = (
        new_recordings(project, rows, "few", ADDED // 10),
        new_recordings(project, rows, "many", ADDED),
    )
    costs = {"prepare": run(project, "stage", "prepare"), "validate": run(project, "stage", "validate")}
    metrics = json.loads((project / "artifacts/metrics/validate.json").read_text())
    print(
        f"{metrics['clean']} of {metrics['rows']} recordings are clean, {metrics['hours']} h; {metrics['reasons']}"
    )
    costs |= {
        f"corpus add, dry run of {ADDED // 10}": run(project, "corpus", "add", str(few), "--dry-run"),
        f"corpus add, {ADDED // 10} new": run(project, "corpus", "add", str(few)),
        f"corpus add, {ADDED} new": run(project, "corpus", "add", str(many)),
        "prepare after corpus add": run(project, "stage", "prepare"),
    }
    return costs


def new_recordings(project: Path, rows: pd.DataFrame, name: str, count: int) -> Path:
    """Write a folder of `count` recordings that the corpus does not contain, with their manifest."""
    folder = project / name
    folder.mkdir()
    table = []
    chosen = rows[~rows["synthetic"]].sample(count, random_state=count)
    for i, row in enumerate(chosen.itertuples(index=False)):
        file = folder / f"{i}{Path(row.path).suffix}"
        file.write_bytes(read_bytes(project / "data" / row.path) + bytes(100 + count + i))
        speaker = f"{name}-{row.speaker}"
        table.append({"path": file.name, "text": row.text, "speaker": speaker, "language": row.language})
    write_manifest(pd.DataFrame(table), folder / "manifest.csv")
    return folder


def run(project: Path, *arguments: str) -> Cost:
    """Run a metavox command in a project and measure it."""
    start, peak = time.perf_counter(), 0
    # Not a pipe: decoders warn of the bytes after a recording's end, and would block when the pipe is full.
    with tempfile.TemporaryFile() as errors:
        process = psutil.Popen([METAVOX, *arguments], cwd=project, stdout=subprocess.DEVNULL, stderr=errors)
        while process.poll() is None:
            peak = max(peak, memory_bytes(process))
            time.sleep(0.1)
        seconds = time.perf_counter() - start
        if process.returncode:
            errors.seek(0)
            sys.exit(f"metavox {' '.join(arguments)}: {errors.read().decode()[-2000:]}")
    return Cost(seconds, peak / 1e6)


def memory_bytes(process: psutil.Process) -> int:
    """The unique set sizes of a process and its descendants."""
    total = 0
    for member in (process, *process.children(recursive=True)):
        try:
            total += member.memory_full_info().uss
        except psutil.Error:  # it has just ended
            continue
    return total


if __name__ == "__main__":
    main()
