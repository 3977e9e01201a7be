"""What the control plane costs, what it saves, and how it recovers.

    python -m benchmarks.operations [--rounds 3]
    python -m benchmarks.operations --voices 1000

The first compares `dvc repro` with the flow on six stages that do nothing, kills the flow in the fifth, and lets a clone
take the results from the remote. The second adapts to many voices of ten words each, on two processes.
"""

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import yaml

from metavox.audio.read import decode, resample
from metavox.sources.synthetic import espeak
from metavox.sources.synthetic.espeak import Rendition
from metavox.sources.synthetic.texts import Text

REPO = Path(__file__).parents[1]
STAGES, KILLED = 6, 5
WORDS = ("open", "close", "lights", "music", "louder", "quieter", "kitchen", "garden", "alarm", "cancel")
RATE = 16000


def project(folder: Path, wait: bool = False) -> Path:
    """A repository of six stages in a chain; with `wait`, the fifth waits for ever the first time."""
    folder.mkdir()
    stages = {}
    for number in range(1, STAGES + 1):
        source = f"out{number - 1}" if number > 1 else "data"
        hold = "[ -e held ] || { touch held; sleep 600; }; " if wait and number == KILLED else ""
        command = f"echo {number} >> runs; {hold}cp {source} out{number}"
        stages[f"stage{number}"] = {"cmd": command, "deps": [source], "outs": [f"out{number}"]}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (folder / "data").write_text("data\n")
    (folder / ".gitignore").write_text("/.metavox\n/runs\n/held\n")
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["dvc", "add", "-q", "data"]):
        subprocess.run(command, cwd=folder, check=True)
    return folder


def timed(command: list[str], cwd: Path) -> float:
    began = time.monotonic()
    subprocess.run(command, cwd=cwd, env=environment(), check=True, capture_output=True)
    return time.monotonic() - began


def environment() -> dict[str, str]:
    here = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": f"{here}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(REPO),
        "DO_NOT_TRACK": "1",
    }


def flow(where: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "flows.pipeline", "--project", str(where), *options]


def overhead(folder: Path, rounds: int) -> None:
    """Seconds of DVC and of the flow for the same work, in turn, and their ratio."""
    took: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds):
        for name in ("dvc repro", "flow"):
            where = project(folder / f"{name.split()[0]}-{number}")
            command = ["dvc", "repro", "-q"] if name == "dvc repro" else flow(where)
            for what in ("all stages", "nothing to do"):
                took.setdefault((what, name), []).append(
                    timed(command, where if name == "dvc repro" else REPO)
                )
    for what in ("all stages", "nothing to do"):
        dvc, ours = (statistics.median(took[what, name]) for name in ("dvc repro", "flow"))
        print(
            f"{what}: dvc repro {dvc:.1f} s, the flow with a server of its own {ours:.1f} s, {ours / dvc:.1f} times"
        )


def recovery(folder: Path) -> None:
    """Kill the flow and all that it started in the fifth stage, and run it again."""
    where = project(folder / "killed", wait=True)
    run = subprocess.Popen(
        flow(where),
        cwd=REPO,
        env=environment(),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )
    while not (where / "held").exists():
        time.sleep(0.1)
    import psutil

    for process in psutil.Process(run.pid).children(recursive=True):
        process.kill()
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    seconds = timed(flow(where), REPO)
    runs = (where / "runs").read_text().split()
    again = len(runs) - STAGES
    print(
        f"killed in stage {KILLED} of {STAGES}: the next run took {seconds:.1f} s and ran {again} stage a second time"
    )


def sharing(folder: Path) -> None:
    """A clone takes the results of all stages from the remote."""
    where = project(folder / "shared")
    remote = ["dvc", "remote", "add", "-q", "-d", "store", str(folder / "remote")]
    subprocess.run(remote, cwd=where, env=environment(), check=True)
    last = [
        "-c",
        f"from flows.stages import stage_flow; print(stage_flow('stage{STAGES}')(project='PLACE', share=True))",
    ]
    own = [sys.executable, *last]
    timed([part.replace("PLACE", str(where)) for part in own], REPO)
    author = ["-c", "user.name=a", "-c", "user.email=a@localhost"]
    for command in (["git", "add", "-A"], ["git", *author, "commit", "-qm", "x"]):
        subprocess.run(command, cwd=where, env=environment(), check=True)
    clone = folder / "clone"
    subprocess.run(["git", "clone", "-q", str(where), str(clone)], check=True)
    (clone / "dvc.lock").unlink()
    subprocess.run(["dvc", "pull", "-q", "data.dvc"], cwd=clone, env=environment(), check=True)
    seconds = timed([part.replace("PLACE", str(clone)) for part in own], REPO)
    ran = len((clone / "runs").read_text().split()) if (clone / "runs").exists() else 0
    print(
        f"a second clone without dvc.lock: {seconds:.1f} s, ran {ran} of {STAGES} stages, took the others from the remote"
    )


def voices(folder: Path, count: int) -> None:
    """Teach ten words of one recording each to `count` voices."""
    from flows.adapt_many import adapt_many, task_runner
    from flows.command import start_prefect

    planned = [
        Rendition(
            Text(word, "en", "word"),
            f"m{1 + voice % 8}" if voice % 2 else f"f{1 + voice % 5}",
            110 + voice % 70,
            20 + voice % 60,
            50,
            0,
        )
        for voice in range(count)
        for word in WORDS
    ]
    rows, random = [], np.random.default_rng(0)
    (folder / "voices").mkdir()
    for number, (rendition, pcm) in enumerate(zip(planned, espeak.speak(planned, workers=2), strict=True)):
        samples = resample(*decode(espeak.encode(pcm or b""), rendition.name), RATE)
        samples = np.pad(samples, 4000)
        samples = samples + 0.001 * random.standard_normal(len(samples))
        soundfile.write(folder / f"voices/{number}.wav", samples.astype(np.float32), RATE)
        rows.append(
            {
                "path": f"{number}.wav",
                "text": rendition.prompt.text,
                "speaker": f"voice-{number // len(WORDS)}",
                "language": "en",
            }
        )
    manifest = folder / "voices/manifest.csv"
    pd.DataFrame(rows).to_csv(manifest, index=False)
    start_prefect(folder)
    options = ["--kind", "words", "--base", "conformer"]
    mapped = adapt_many.with_options(task_runner=task_runner(2))
    for what in ("first", "again"):
        began = time.monotonic()
        counts = mapped(
            str(manifest),
            str(folder / "deltas"),
            options=options,
            project=str(folder),
        )
        print(f"{count} voices, {what}: {time.monotonic() - began:.0f} s, {counts}")
    size = sum(path.stat().st_size for path in (folder / "deltas").rglob("*") if path.is_file())
    print(f"a voice's delta takes {size / count / 1000:.1f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--voices", type=int, default=0, help="adapt to so many voices, instead of the rest")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        if arguments.voices:
            voices(folder, arguments.voices)
        else:
            overhead(folder, arguments.rounds)
            recovery(folder)
            sharing(folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
