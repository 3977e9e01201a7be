"""Writes subtitles as SubRip, WebVTT and Advanced SubStation Alpha, and into a copy of a video."""

import html
import io
from pathlib import Path
from typing import Any, Literal, get_args

from metavox.errors import UserError
from metavox.files import written_aside
from metavox.recognisers.transcript import Transcript
from metavox.recognition.cues import Cue, CueConfig, cues

SubtitleFormat = Literal["srt", "vtt", "ass"]
SUBTITLE_FORMATS: tuple[str, ...] = get_args(SubtitleFormat)
CONTAINERS = {".mkv": "matroska", ".mka": "matroska", ".mks": "matroska"}


def subtitles(transcript: Transcript, form: SubtitleFormat, config: CueConfig = CueConfig()) -> str:
    """The subtitles of a transcript in one of the formats."""
    return {"srt": as_srt, "vtt": as_vtt, "ass": as_ass}[form](transcript, config)


def as_srt(transcript: Transcript, config: CueConfig = CueConfig()) -> str:
    """SubRip: numbered cues with a comma before the milliseconds."""
    return "".join(
        f"{i}\n{_stamp(cue.start_s, ',')} --> {_stamp(cue.end_s, ',')}\n{_lines(cue)}\n\n"
        for i, cue in enumerate(cues(transcript, config), 1)
    )


def as_vtt(transcript: Transcript, config: CueConfig = CueConfig()) -> str:
    """WebVTT, with speakers as voices."""
    return "WEBVTT\n\n" + "".join(
        f"{_stamp(cue.start_s, '.')} --> {_stamp(cue.end_s, '.')}\n{_voice(cue)}{_escaped(cue)}\n\n"
        for cue in cues(transcript, config)
    )


def as_ass(transcript: Transcript, config: CueConfig = CueConfig()) -> str:
    """Advanced SubStation Alpha, with speakers as names."""
    from pysubs2 import SSAEvent, SSAFile

    file = SSAFile()
    for cue in cues(transcript, config):
        event = SSAEvent(start=round(1000 * cue.start_s), end=round(1000 * cue.end_s), name=cue.speaker)
        # Braces would be commands, and a backslash begins one.
        plain = _lines(cue).replace("\\", "/").replace("{", "(").replace("}", ")")
        event.text = plain.replace("\n", "\\N")
        file.append(event)
    return str(file.to_string("ass"))


def _lines(cue: Cue) -> str:
    return "\n".join(line.replace("-->", "→") for line in cue.lines)


def _voice(cue: Cue) -> str:
    return f"<v {html.escape(cue.speaker)}>" if cue.speaker else ""


def _escaped(cue: Cue) -> str:
    return html.escape(_lines(cue), quote=False)


def _stamp(seconds: float, separator: str) -> str:
    millis = round(seconds * 1000)
    hours, rest = divmod(millis, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}{separator}{rest % 1000:03d}"


def mux(video: Path, srt: str, out: Path, language: str = "") -> None:
    """Copy all streams of a video into `out`, a Matroska file, with SubRip subtitles beside them; nothing is encoded
    again. Raises UserError for another container and for a video that cannot be copied."""
    import av

    if out.suffix.lower() not in CONTAINERS:
        raise UserError(f"{out}: a muxed copy is a Matroska file; name it with {', '.join(CONTAINERS)}")
    try:
        with (
            written_aside(out) as aside,
            av.open(str(video), options={"protocol_whitelist": "file"}) as source,
            av.open(str(aside), "w", format=CONTAINERS[out.suffix.lower()]) as target,
        ):
            assert isinstance(source, av.container.InputContainer)
            streams = {s.index: target.add_stream_from_template(s) for s in source.streams if s.codec_context}
            if not srt:
                _copy(source, streams, target, [])
                return
            with av.open(io.BytesIO(srt.encode()), format="srt") as text:
                assert isinstance(text, av.container.InputContainer)
                track = target.add_stream_from_template(text.streams.subtitles[0])
                if language:
                    track.metadata["language"] = language
                shown = [packet for packet in text.demux() if packet.dts is not None]
                for packet in shown:
                    packet.stream = track
                _copy(source, streams, target, shown)
    except (av.FFmpegError, ValueError) as error:
        reason = error.strerror if isinstance(error, av.FFmpegError) else str(error)
        raise UserError(f"{video}: cannot be copied ({' '.join(str(reason).split())})") from error


def _copy(source: Any, streams: dict[int, Any], target: Any, cues: list[Any]) -> None:
    """Copy the packets of a file, with those of cues among them in the order of time, as players read them."""
    waiting = sorted(cues, key=_time_s)
    for packet in source.demux([source.streams[i] for i in streams]):
        if packet.dts is None:
            continue
        while waiting and _time_s(waiting[0]) <= _time_s(packet):
            target.mux(waiting.pop(0))
        packet.stream = streams[packet.stream.index]
        target.mux(packet)
    for packet in waiting:
        target.mux(packet)


def _time_s(packet: Any) -> float:
    return float(packet.dts * packet.time_base)
