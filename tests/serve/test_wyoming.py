"""The Wyoming server, used by the protocol's own client: what it offers, transcripts, and wake words."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from spoken import RATE, spoken
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.info import Describe, Info
from wyoming.wake import Detect, Detection, NotDetected

from metavox.enrolment.enrol import EnrolConfig, enrol
from metavox.recognisers.bases.find import default_embedder
from metavox.recognisers.recogniser import WordEmbedder
from metavox.serve.wyoming import serve
from metavox.session import Session, session_on

T = TypeVar("T")
LIMIT_S = 120.0


@pytest.fixture(scope="module")
def session() -> Session:
    torch.set_num_threads(1)
    loaded = default_embedder().load()
    assert isinstance(loaded, WordEmbedder)
    clips = [(word, spoken(word, seed=seed)) for word in ("lantern", "october") for seed in (1, 2, 3)]
    delta = enrol(loaded, [clip for _, clip in clips], [word for word, _ in clips], EnrolConfig("prototypes"))
    assert delta.vocabulary is not None
    words = replace(delta.vocabulary, threshold=0.4)
    return replace(session_on(loaded), vocabulary=words)


def served(session: Session, use: Callable[[AsyncTcpClient], Awaitable[T]]) -> T:
    """Serve a session, connect to it, and return what `use` makes of the connection."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    async def run() -> T:
        begun = asyncio.Event()

        async def ready() -> None:
            begun.set()

        server = asyncio.create_task(serve(session, "127.0.0.1", port, ready=ready))
        try:
            await asyncio.wait_for(begun.wait(), LIMIT_S)
            async with AsyncTcpClient("127.0.0.1", port) as client:
                return await asyncio.wait_for(use(client), LIMIT_S)
        finally:
            server.cancel()

    return asyncio.run(run())


async def send(client: AsyncTcpClient, samples: np.ndarray, rate: int = RATE, channels: int = 1) -> None:
    pcm = np.repeat((np.clip(samples, -1, 1) * 32767).astype("<i2")[:, None], channels, axis=1)
    await client.write_event(AudioStart(rate, 2, channels).event())
    for first in range(0, len(pcm), 1024):
        chunk = pcm[first : first + 1024].tobytes()
        await client.write_event(AudioChunk(rate, 2, channels, chunk).event())
    await client.write_event(AudioStop().event())


def test_it_says_what_it_offers(session: Session) -> None:
    async def use(client: AsyncTcpClient) -> Info:
        await client.write_event(Describe().event())
        event = await client.read_event()
        assert event is not None
        return Info.from_event(event)

    info = served(session, use)
    assert [model.name for program in info.asr for model in program.models] == ["conformer"]
    assert [model.name for program in info.wake for model in program.models] == ["lantern", "october"]
    assert served(replace(session, vocabulary=None), use).wake == []


def test_it_transcribes_one_utterance_after_another(session: Session) -> None:
    plain, clip = replace(session, vocabulary=None), spoken("we will go home now")
    twice = np.repeat(clip, 2)

    async def use(client: AsyncTcpClient) -> list[str]:
        texts = []
        for samples, rate, channels in (
            (clip, RATE, 1),
            (np.zeros(RATE, np.float32), RATE, 1),
            (twice, 2 * RATE, 2),
        ):
            await client.write_event(Transcribe(language="en").event())
            await send(client, samples, rate, channels)
            event = await client.read_event()
            assert event is not None
            texts.append(Transcript.from_event(event).text)
        return texts

    first, silence, resampled = served(plain, use)
    assert (
        first
        == plain.transcribe((np.clip(clip, -1, 1) * 32767).astype("<i2").astype(np.float32) / 32768).text
    )
    assert silence == ""
    assert resampled


@pytest.mark.parametrize(
    ("asked", "expected"), [([], ["lantern"]), (["lantern"], ["lantern"]), (["october"], [])]
)
def test_it_detects_wake_words(session: Session, asked: list[str], expected: list[str]) -> None:
    quiet = np.zeros(2 * RATE, np.float32)

    async def use(client: AsyncTcpClient) -> list[Any]:
        await client.write_event(Detect(names=asked or None).event())
        await send(client, np.concatenate([quiet, spoken("lantern", seed=7), quiet]))
        event = await client.read_event()
        assert event is not None
        return [event]

    (event,) = served(session, use)
    if expected:
        assert Detection.is_type(event.type)
        found = Detection.from_event(event)
        assert found.name == "lantern"
        assert found.timestamp is not None
        assert 2000 < found.timestamp < 3200
    else:
        assert NotDetected.is_type(event.type)


def test_silence_is_not_detected(session: Session) -> None:
    async def use(client: AsyncTcpClient) -> bool:
        await client.write_event(Detect().event())
        await send(client, np.zeros(3 * RATE, np.float32))
        event = await client.read_event()
        assert event is not None
        return NotDetected.is_type(event.type)

    assert served(session, use)
