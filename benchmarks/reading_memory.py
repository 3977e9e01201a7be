"""Peak memory of reading an hour of sound, against the size of its samples: `python benchmarks/reading_memory.py [MINUTES]`."""

import subprocess
import sys
import tempfile
from pathlib import Path

import av
import numpy as np
import soundfile

RUN = r"""
import re, sys, time
from pathlib import Path
from metavox.audio.read import read_audio
def peak():  # not ru_maxrss, which begins with the peak of the process that started this one
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024
before, start = peak(), time.process_time()
samples = read_audio(sys.argv[1], 16000)
size = samples.nbytes / 2**20
print(f"{peak() - before:.0f} MiB for {size:.0f} MiB of samples: {(peak() - before) / size:.2f} times; {time.process_time() - start:.1f} CPU s")
"""


def minute(rate: int, channels: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.05, (60 * rate, channels)).astype(np.float32)


def write(path: Path, rate: int, channels: int, minutes: int) -> None:
    with soundfile.SoundFile(path, "w", rate, channels) as file:
        for _ in range(minutes):
            file.write(minute(rate, channels))


def write_live_webm(path: Path, minutes: int) -> None:
    """Opus in WebM that does not say how long it is, as browsers record it."""
    pcm = np.int16(minute(48000, 2) * 32767).reshape(1, -1)
    with av.open(path, "w", format="webm", options={"live": "1"}) as output:
        sound = output.add_stream("libopus", rate=48000, layout="stereo")
        for i in range(minutes):
            frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout="stereo")
            frame.sample_rate, frame.pts = 48000, i * 60 * 48000
            output.mux(sound.encode(frame))
        output.mux(sound.encode(None))


def main() -> None:
    minutes = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    with tempfile.TemporaryDirectory() as folder:
        mono, stereo, webm = (Path(folder, name) for name in ("mono16k.wav", "stereo48k.wav", "live.webm"))
        write(mono, 16000, 1, minutes)
        write(stereo, 48000, 2, minutes)
        write_live_webm(webm, minutes)
        for path in (mono, stereo, webm):
            command = [sys.executable, "-c", RUN, str(path)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            print(f"{path.name}, {minutes} min: {done.stdout.strip()}")


if __name__ == "__main__":
    main()
