"""A server of the Wyoming protocol (github.com/OHF-Voice/wyoming), by which Home Assistant uses speech-to-text and wake
words. Requests of one connection are answered in their order, and audio is held for one utterance only."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioChunkConverter, AudioStart, AudioStop
from wyoming.event import Event
from wyoming.info import AsrModel, AsrProgram, Attribution, Describe, Info, WakeModel, WakeProgram
from wyoming.server import AsyncEventHandler, AsyncServer
from wyoming.wake import Detect, Detection, NotDetected

from metavox import __version__
from metavox.recognition.spotting import Spotted, Spotter
from metavox.session import Session

LONGEST_S = 300.0  # of an utterance; what follows is dropped
ATTRIBUTION = Attribution(name="metavox", url="https://github.com/metavox/metavox")


def info(session: Session) -> Info:
    """What the server offers: the recogniser, and the words of the vocabulary as wake words."""
    spec = session.recogniser.spec
    common: dict[str, Any] = {"attribution": ATTRIBUTION, "installed": True, "version": __version__}
    languages = list(spec.languages) or [session.language or "en"]
    model = AsrModel(name=spec.name, description=spec.name, languages=languages, **common)
    program = AsrProgram(name="metavox", description="metavox", models=[model], **common)
    words = [
        WakeModel(name=word, description=word, phrase=word, languages=languages, **common)
        for word in session.words
    ]
    wake = [WakeProgram(name="metavox", description="metavox", models=words, **common)] if words else []
    return Info(asr=[program], wake=wake)


class Handler(AsyncEventHandler):
    """One client."""

    def __init__(self, session: Session, threshold: float | None, *streams: Any):
        super().__init__(*streams)
        self._session, self._threshold = session, threshold
        self._converter = AudioChunkConverter(rate=session.rate, width=2, channels=1)
        self._language, self._names = "", list[str]()
        self._audio: list[np.ndarray] = []
        self._spotter: Spotter | None = None
        self._detecting, self._reported = False, 0  # words of this stream that were reported

    async def handle_event(self, event: Event) -> bool:
        if Describe.is_type(event.type):
            await self.write_event(info(self._session).event())
        elif Transcribe.is_type(event.type):
            self._language, self._spotter = Transcribe.from_event(event).language or "", None
            self._detecting = False
            self._audio = []
        elif Detect.is_type(event.type):
            self._names, self._detecting = list(Detect.from_event(event).names or []), True
            self._spotter = self._new_spotter()
        elif AudioStart.is_type(event.type):
            self._audio = []
            self._converter = AudioChunkConverter(rate=self._session.rate, width=2, channels=1)
            self._spotter, self._reported = self._new_spotter() if self._spotter else None, 0
        elif AudioChunk.is_type(event.type):
            await self._chunk(AudioChunk.from_event(event))
        elif AudioStop.is_type(event.type):
            await self._stop()
        return True

    def _new_spotter(self) -> Spotter | None:
        words = self._session.vocabulary
        return Spotter(self._session.embedder, words, self._threshold) if words else None

    async def _chunk(self, chunk: AudioChunk) -> None:
        data = self._converter.convert(chunk).audio
        samples = np.frombuffer(data, "<i2").astype(np.float32) / 32768
        if not self._detecting:
            if sum(map(len, self._audio)) < LONGEST_S * self._session.rate:
                self._audio.append(samples)
            return
        found = await asyncio.to_thread(lambda: list(self._spotter.push(samples)) if self._spotter else [])
        await self._detected(found)

    async def _detected(self, found: list[Spotted]) -> None:
        """Report the words that were asked for."""
        asked = [one for one in found if not self._names or one.word in self._names]
        for one in asked:
            await self.write_event(Detection(name=one.word, timestamp=round(1000 * one.end_s)).event())
        self._reported += len(asked)

    async def _stop(self) -> None:
        if self._detecting:
            found = await asyncio.to_thread(lambda: list(self._spotter.end()) if self._spotter else [])
            await self._detected(found)
            if not self._reported:
                await self.write_event(NotDetected().event())
            self._spotter, self._reported = self._new_spotter(), 0
            return
        samples, self._audio = np.concatenate([*self._audio, np.zeros(0, np.float32)]), []
        session = self._session
        if self._language and session.understands(self._language):
            session = session.in_language(self._language)
        transcript = await asyncio.to_thread(session.transcribe, samples)
        await self.write_event(Transcript(text=transcript.text, language=transcript.language or None).event())


async def serve(
    session: Session,
    host: str,
    port: int,
    threshold: float | None = None,
    ready: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> None:
    """Serve until cancelled."""
    server = AsyncServer.from_uri(f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}")
    await server.start(lambda *streams: Handler(session, threshold, *streams))
    if ready:
        await ready()
    try:
        await asyncio.Event().wait()
    finally:
        await server.stop()
