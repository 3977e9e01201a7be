"""Commands: what is understood, what is rejected, and what is done about it."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

from metavox.errors import UserError
from metavox.recognisers.recogniser import DecodeOptions, Recogniser
from metavox.recognisers.transcript import Segment, Transcript
from metavox.recognition.actions import load_actions
from metavox.recognition.commands import BEAM, Command, threshold_for, understand
from metavox.recognition.grammar import grammar_of

GRAMMAR = grammar_of(
    {
        "intents": {"On": {"data": [{"sentences": ["turn on the {what}"]}]}},
        "lists": {"what": {"values": ["light", "fan"]}},
    }
)


class Scripted:
    """Answers a search inside the grammar and a free one with texts and log-likelihoods; no network is needed for that."""

    def __init__(self, inside: list[tuple[str, float]], free: list[tuple[str, float]]):
        self.answers = {True: inside, False: free}
        self.options: list[DecodeOptions] = []

    def encode(self, audio: list[np.ndarray]) -> list[np.ndarray]:
        return audio

    def transcribe(self, audio: list[np.ndarray], options: DecodeOptions) -> list[Transcript]:
        self.options.append(options)
        return [
            Transcript((Segment(text, 0.0, 1.0, 0.5, (), log_prob),) if text else (), 1.0)
            for text, log_prob in self.answers[options.guide is GRAMMAR.automaton]
        ]


def understood(inside: tuple[str, float], free: tuple[str, float], threshold: float = -5.0) -> Command:
    recogniser: Recogniser = Scripted([inside], [free])  # type: ignore[assignment]
    (command,) = understand(recogniser, [np.zeros(9)], GRAMMAR, threshold=threshold)
    return command


def test_a_command_is_as_likely_as_the_best_of_all_texts_or_nearly() -> None:
    assert understood(("Turn on the fan.", -3.0), ("Turn on the van.", -2.5)) == Command(
        "On", {"what": "fan"}, "Turn on the fan.", -0.5
    )
    rejected = understood(("Turn on the fan.", -30.0), ("What is the time?", -2.5))
    assert (rejected.intent, rejected.slots, rejected.score) == (None, {}, -27.5)
    assert understood(("", 0.0), ("What?", -2.5)) == Command(None)
    assert understood(("Turn on the fan.", -30.0), ("", 0.0), -np.inf).intent == "On"


def test_both_searches_keep_several_texts() -> None:
    recogniser = Scripted([("turn on the fan", -1.0)], [("x", -1.0)])
    understand(recogniser, [np.zeros(9)], GRAMMAR, DecodeOptions(language="en", word_times=True))  # type: ignore[arg-type]
    inside, free = recogniser.options
    assert (inside.beam, inside.guide, inside.language, inside.word_times) == (
        BEAM,
        GRAMMAR.automaton,
        "en",
        False,
    )
    assert free.guide is None
    assert free.beam > 1


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.1, 0.5, 1.0])
def test_a_threshold_accepts_no_more_than_its_share(rate: float) -> None:
    scores = np.random.default_rng(0).normal(size=200)
    threshold = threshold_for(scores, rate)
    assert np.mean(scores >= threshold) == pytest.approx(rate)


def actions_of(tmp_path: Path, text: str) -> Path:
    (tmp_path / "actions.yaml").write_text(text)
    return tmp_path / "actions.yaml"


def test_a_python_function_gets_the_slots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_house.py").write_text(
        "def switch(what):\n    return what.upper()\n\ndef fail(what):\n    1 / 0\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    command = Command("On", {"what": "fan"})
    action = load_actions(actions_of(tmp_path, "On: {python: my_house:switch}"), ("On",))["On"]
    assert action.run(command) == "'FAN'"
    assert action.describe(command) == "my_house:switch(what='fan')"
    for name, message in (("fail", "ZeroDivisionError"), ("gone", "gone")):
        broken = load_actions(actions_of(tmp_path, f"On: {{python: my_house:{name}}}"), ("On",))["On"]
        with pytest.raises(UserError, match=message):
            broken.run(command)


def test_a_webhook_gets_the_command(tmp_path: Path) -> None:
    received = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204 if self.path == "/ok" else 500)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        action = load_actions(actions_of(tmp_path, f"On: {{webhook: {url}/ok}}"), ("On",))["On"]
        assert action.run(Command("On", {"what": "fan"}, "turn on the fan", -0.5)) == "204"
        assert received == [
            {"intent": "On", "slots": {"what": "fan"}, "text": "turn on the fan", "score": -0.5}
        ]
        failing = load_actions(actions_of(tmp_path, f"On: {{webhook: {url}/no}}"), ("On",))["On"]
        with pytest.raises(UserError, match="answered 500"):
            failing.run(Command("On"))
    finally:
        server.shutdown()
    with pytest.raises(UserError, match="is it running"):
        action.run(Command("On"))


@pytest.mark.parametrize(
    "text",
    [
        "On: {python: nothing}",
        "On: {mail: x}",
        "On: 3",
        "Off: {python: a:b}",
        "- a",
        "On: [",
        "On: {webhook: ftp://x}",
    ],
)
def test_broken_actions_are_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match=r"actions\.yaml: ") as caught:
        load_actions(actions_of(tmp_path, text), ("On",))
    assert "\n" not in str(caught.value)
