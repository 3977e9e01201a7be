"""Measure the peak memory of reading long recordings, relative to the size of their samples.

    python benchmarks/reading_memory.py [MINUTES]

Each file is read in a process of its own: mono WAV at the target rate, stereo WAV at 48 kHz, and Opus in WebM. Each line
gives the peak memory that reading adds, the size of the samples at 16 kHz, their ratio, and the CPU time.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import numpy as np
import soundfile

READ = r"""
import re, sys, time
from pathlib import Path
from metavox.audio.read import read_audio
def peak():  # not ru_maxrss, which starts at the peak of the parent process
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024
before, start = peak(), time.process_time()
samples = read_audio(sys.argv[1], 16000)
size = samples.nbytes / 2**20
print(f"{peak() - before:.0f} MiB for {size:.0f} MiB of samples (ratio {(peak() - before) / size:.2f}), {time.process_time() - start:.1f} CPU s")
"""


def minute_of_noise(rate: int, channels: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.05, (60 * rate, channels)).astype(np.float32)


def write_wav(path: Path, rate: int, channels: int, minutes: int) -> None:
    with soundfile.SoundFile(path, "w", rate, channels) as file:
        for _ in range(minutes):
            file.write(minute_of_noise(rate, channels))


def write_live_webm(path: Path, minutes: int) -> None:
    """Write Opus in WebM without a duration in the header, as browsers record it."""
    pcm = np.int16(minute_of_noise(48000, 2) * 32767).reshape(1, -1)
    with av.open(path, "w", format="webm", options={"live": "1"}) as output:
        stream = output.add_stream("libopus", rate=48000, layout="stereo")
        for i in range(minutes):
            frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout="stereo")
            frame.sample_rate, frame.pts = 48000, i * 60 * 48000
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("minutes", nargs="?", type=int, default=60)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as folder:
        mono, stereo, webm = (Path(folder, name) for name in ("mono16k.wav", "stereo48k.wav", "live.webm"))
        write_wav(mono, 16000, 1, minutes)
        write_wav(stereo, 48000, 2, minutes)
        write_live_webm(webm, minutes)
        for path in (mono, stereo, webm):
            command = [sys.executable, "-c", READ, str(path)]
            process = subprocess.run(command, check=True, capture_output=True, text=True)
            print(f"{path.name}, {minutes} min: {process.stdout.strip()}")


if __name__ == "__main__":
    main()
