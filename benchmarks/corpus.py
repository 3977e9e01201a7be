"""prepare, validate and `corpus add` at one and at several times a corpus: seconds and peak memory, in one run.

    python benchmarks/corpus.py --data data --times 5

The larger corpus holds every recording several times, each time with other bytes behind its end: other content for
the gate, the same sound for the decoders. Memory is the largest sum over the processes of a command, seen ten times
a second, of what is theirs alone (USS).
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
NEW = 100


@dataclass(frozen=True)
class Cost:
    seconds: float
    peak_mb: float


def main() -> None:
    wanted = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    wanted.add_argument("--data", type=Path, default=Path("data"))
    wanted.add_argument("--times", type=int, default=5)
    wanted.add_argument("--params", type=Path, default=Path("params.yaml"))
    wanted.add_argument("--json", type=Path)
    given = wanted.parse_args()
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="metavox-benchmark-", dir=".") as temporary:
        for times in (1, given.times):
            project = Path(temporary).absolute() / str(times)
            rows = multiply(given.data, project / "data", times)
            shutil.copy(given.params, project / "params.yaml")
            for name, cost in costs(project, rows).items():
                results.setdefault(name, {})[f"{times}x s"] = round(cost.seconds, 1)
                results[name][f"{times}x MB"] = round(cost.peak_mb)
            shutil.rmtree(project)
    table = pd.DataFrame(results).T
    table["time ratio"] = (table[f"{given.times}x s"] / table["1x s"]).round(2)
    table["memory ratio"] = (table[f"{given.times}x MB"] / table["1x MB"]).round(2)
    print(table.to_string())
    if given.json:
        given.json.write_text(json.dumps(results, indent=2) + "\n")


def multiply(data: Path, out: Path, times: int) -> pd.DataFrame:
    """The corpus with each recording `times` times, under paths of their own."""
    rows = read_manifest(data / "manifest.csv")
    tables = []
    for copy in range(times):
        folder = out / f"shards-{copy}"
        folder.mkdir(parents=True)
        for shard in sorted((data / "shards").glob("*.tar")):
            with tarfile.open(shard) as old, tarfile.open(folder / shard.name, "w") as new:
                for member in old:
                    sound = old.extractfile(member)
                    assert sound is not None
                    content = sound.read() + bytes(copy)
                    member.size = len(content)
                    new.addfile(member, io.BytesIO(content))
        path = rows["path"].str.replace("shards/", f"shards-{copy}/", n=1)
        tables.append(rows.assign(path=path, sha256=rows["sha256"] + f"-{copy}" * bool(copy)))
    everything = pd.concat(tables).sort_values("path", ignore_index=True)
    write_manifest(everything, out / "manifest.csv")
    return everything


def costs(project: Path, rows: pd.DataFrame) -> dict[str, Cost]:
    """Each command's cost in this project; the corpus grows by the recordings added."""
    few, many = clips(project, rows, "few", NEW // 10), clips(project, rows, "many", NEW)
    found = {
        "prepare": command(project, "stage", "prepare"),
        "validate": command(project, "stage", "validate"),
    }
    verdict = json.loads((project / "artifacts/metrics/validate.json").read_text())
    print(
        f"{verdict['clean']} of {verdict['rows']} recordings are clean, {verdict['hours']} h; {verdict['reasons']}"
    )
    for name, folder in (("none", few), (f"{NEW // 10} new", few), (f"{NEW} new", many)):
        dry = ("--dry-run",) if name == "none" else ()
        found[f"corpus add, {name if name != 'none' else 'dry run of 10'}"] = command(
            project, "corpus", "add", str(folder), *dry
        )
    found["prepare again, what was added"] = command(project, "stage", "prepare")
    return found


def clips(project: Path, rows: pd.DataFrame, name: str, count: int) -> Path:
    """A folder of `count` recordings that the corpus does not have, with their manifest."""
    folder = project / name
    folder.mkdir()
    chosen = rows[~rows["synthetic"]].sample(count, random_state=count)
    table = []
    for i, row in enumerate(chosen.itertuples(index=False)):
        file = folder / f"{i}{Path(row.path).suffix}"
        file.write_bytes(read_bytes(project / "data" / row.path) + bytes(100 + count + i))
        table.append(
            {
                "path": file.name,
                "text": row.text,
                "speaker": f"{name}-{row.speaker}",
                "language": row.language,
            }
        )
    write_manifest(pd.DataFrame(table), folder / "manifest.csv")
    return folder


def command(project: Path, *arguments: str) -> Cost:
    started, peak = time.perf_counter(), 0
    # Not a pipe: the decoders warn of the bytes behind an end, and a full pipe would stop them for good.
    with tempfile.TemporaryFile() as said:
        process = psutil.Popen([METAVOX, *arguments], cwd=project, stdout=subprocess.DEVNULL, stderr=said)
        while process.poll() is None:
            peak = max(peak, used(process))
            time.sleep(0.1)
        seconds = time.perf_counter() - started
        if process.returncode:
            said.seek(0)
            sys.exit(f"metavox {' '.join(arguments)}: {said.read().decode()[-2000:]}")
    return Cost(seconds, peak / 1e6)


def used(process: psutil.Process) -> int:
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            total += one.memory_full_info().uss
        except psutil.Error:  # it has just ended
            continue
    return total


if __name__ == "__main__":
    main()
