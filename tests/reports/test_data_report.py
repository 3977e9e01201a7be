"""The data report as a browser reads it, and its figures on corpora constructed to have them."""

import re
import shutil
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from pages import HOSTILE, Page, assert_inert

from metavox.config import FeatureConfig
from metavox.dataset.episodes import EpisodeSampler, EpisodeShape
from metavox.dataset.manifest import COLUMNS, read_manifest, write_manifest
from metavox.errors import UserError
from metavox.params import Validate
from metavox.quality import Verdict, judge
from metavox.reports import charts
from metavox.reports.data.plots import measure_chart
from metavox.reports.data.report import measures, report_page, write_report
from metavox.reports.data.rows import measured, prepared_rows
from metavox.reports.data.speakers import identified_by_channel, recorded, shared_words, word_tasks
from metavox.reports.data.text import findings
from metavox.stages.prepare import prepare

SPLITS = {"anna": "train", "bert": "train", "carl": "dev", "dora": "test", "emil": "test", "robot": "train"}
GOOD = {
    "duration_s": 0.6,
    "sample_rate": 16000,
    "peak": 0.5,
    "rms_db": -20.0,
    "dc_offset": 0.001,
    "clipping": 0.0,
    "silence": 0.1,
    "snr_db": 25.0,
    "bandwidth_hz": 7000.0,
    "error": "",
}


def corpus(words: int = 12, speakers: dict[str, str] = SPLITS, **columns: Any) -> pd.DataFrame:
    """Rows as the prepare stage makes them: every speaker says every word once, in good conditions."""
    random = np.random.default_rng(0)
    rows = [
        {
            "path": f"{speaker}/{number}.wav",
            "text": f"word {number}",
            "speaker": speaker,
            "language": "en",
            "source": "here",
            "license": "CC0",
            "unit": "word",
            "split": split,
            "synthetic": speaker == "robot",
        }
        for speaker, split in speakers.items()
        for number in range(words)
    ]
    table = pd.DataFrame({**COLUMNS, **pd.DataFrame(rows), **GOOD})
    table["content"] = [f"{number:064x}" for number in range(len(table))]
    table.loc[table["synthetic"], "duration_s"] = 0.29
    for name in ("rms_db", "snr_db", "bandwidth_hz"):
        table[name] *= random.uniform(0.95, 1.05, len(table))
    return table.assign(**columns)


@pytest.fixture(scope="module")
def recorded_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/manifest.csv with recordings: tones by four speakers, one clipped, one far too long, and one file without audio."""
    data = tmp_path_factory.mktemp("recorded") / "data"
    data.mkdir()
    time = np.arange(16000) / 16000
    rows = []
    for number in range(12):
        tone = 0.3 * np.sin(2 * np.pi * (1000 + 100 * number) * time) * np.hanning(len(time)) ** 2
        tone += 0.001 * np.random.default_rng(number).standard_normal(len(time))
        if number == 4:
            tone = np.clip(60 * tone, -1, 1)
        if number == 5:
            tone = np.tile(tone, 25)
        soundfile.write(data / f"{number}.wav", tone, 16000)
        if number == 6:
            (data / "6.wav").write_bytes(b"this is no audio")
        split = ("train", "dev", "test", "test")[number % 4]
        row = {"path": f"{number}.wav", "text": f"w{number}", "speaker": f"v{number % 4}", "split": split}
        rows.append({**row, "language": "en"})
    write_manifest(pd.DataFrame(rows), data / "manifest.csv")
    return data.parent


def pass_on(chunks: Iterable[Any], count: int) -> Iterable[Any]:
    return chunks


@pytest.fixture(scope="module")
def validated(recorded_corpus: Path) -> tuple[pd.DataFrame, Verdict]:
    manifest = recorded_corpus / "data" / "manifest.csv"
    rows = measured(read_manifest(manifest), manifest, 1, pass_on)
    return rows, judge(rows, Validate(max_quarantined=0.5))


@pytest.fixture(scope="module")
def written(recorded_corpus: Path, validated: tuple[pd.DataFrame, Verdict]) -> str:
    """The page of the recorded corpus."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charts, "DPI", charts.DPI // 3)  # as coarse_charts does
        return write_page(recorded_corpus, validated)


def write_page(root: Path, validated: tuple[pd.DataFrame, Verdict]) -> str:
    write_report(*validated, Validate(), root / "out", root)
    return (root / "out" / "report.html").read_text(encoding="utf-8")


def test_whole_page_loads_nothing_and_reads_well(
    written: str, validated: tuple[pd.DataFrame, Verdict]
) -> None:
    assert validated[1].success, validated[1].failed
    text = written
    page = Page(text)
    assert all(source.startswith("data:") for source in page.loads)
    assert "://" not in text
    assert "Changes since" not in page.text
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert page.alts
    assert all(page.alts)
    assert page.tags.count("h1") == 1
    for part in (
        "12 recordings of 4 speakers",
        "The gate passed.",
        "9 of 12 recordings",
        "clipping",
        "expected 0.1 to 20 s",
        "cannot be decoded",
        "Recorded too loud",
        "min_duration_s",
    ):
        assert part in page.text, part


@pytest.mark.usefixtures("coarse_charts")
def test_clips_and_changes_are_shown_if_available(
    recorded_corpus: Path, validated: tuple[pd.DataFrame, Verdict]
) -> None:
    rows, verdict = validated
    before = rows.assign(split=rows["split"].where(rows["speaker"] != "v0", "test"))
    with_audio = Page(
        report_page(rows, verdict, Validate(), recorded_corpus / "data" / "manifest.csv", before, "v1")
    )
    assert "Changes since v1" in with_audio.text
    assert "test speaker v0 is now in train" in with_audio.text
    assert with_audio.tags.count("audio") == 2, "the clipped and the long one; the third is no audio"
    sounds = [source for source in with_audio.loads if source.startswith("data:audio")]
    assert max(map(len, sounds)) < 200_000, "only the start of a long recording is embedded"


@pytest.mark.usefixtures("coarse_charts")
def test_the_same_rows_give_the_same_bytes(
    written: str, recorded_corpus: Path, validated: tuple[pd.DataFrame, Verdict]
) -> None:
    assert write_page(recorded_corpus, validated) == written


def test_charts_count_the_recordings_beyond_the_limits() -> None:
    rows = corpus()
    rows.loc[:4, "duration_s"] = 0.02
    rows.loc[20, "snr_db"] = -3.0
    drawn = [measure_chart(rows, measure) for measure in measures(Validate(min_duration_s=0.07))]
    alts = [chart.says for chart in drawn if chart]
    (duration,) = (alt for alt in alts if alt.startswith("Duration"))
    (noise,) = (alt for alt in alts if alt.startswith("Signal-to-noise ratio"))
    assert "5 beyond the limit of 0.07; 0 beyond the limit of 20" in duration
    assert "1 beyond the limit of 0" in noise


def test_problems_are_reported_with_a_remedy() -> None:
    assert problems_of(corpus()) == ""
    rows = corpus(text_kind="inferred", bandwidth_hz=3500.0)
    rows.loc[rows["speaker"] == "dora", "language"] = "cy"
    rows.loc[:2, "clipping"] = 0.5
    problems = problems_of(rows)
    for part in (
        "3 recordings are quarantined: clipping (3).",
        "Recorded too loud",
        "1 language only in test: cy.",
        "72 inferred",
        "100% of the recorded hours have nothing above 4 kHz",
    ):
        assert part in problems, part
    leaking = corpus()
    leaking.loc[leaking["speaker"] == "dora", "split"] = ["train"] + ["test"] * 11
    assert "Put all recordings of the speaker in one split" in problems_of(leaking)
    assert "Record a second speaker" in problems_of(corpus(language="sv").query("speaker == 'anna'"))
    alone = corpus(speakers={"anna": "train", "bert": "train", "dora": "test", "emil": "test"})
    alone["text"] = alone["speaker"] + alone["text"]
    assert "In 0 of 1 languages, two recorded speakers in train share five words" in problems_of(alone)


def problems_of(rows: pd.DataFrame) -> str:
    rows = rows.reset_index(drop=True)
    verdict = judge(rows, Validate(max_quarantined=0.5))
    recorded_rows = recorded(rows)
    found = findings(rows, verdict, identified_by_channel(recorded_rows), word_tasks(recorded_rows))
    return "\n".join(f"{one.what} {one.do}" for one in found)


def test_the_channel_identifies_only_speakers_whose_channel_differs() -> None:
    """The channel identifies the one speaker recorded in a studio, but none of the ten on the same telephone."""
    speakers = {f"phone {number}": "train" for number in range(10)}
    random = np.random.default_rng(1)
    rows = corpus(40, {**speakers, "studio": "train"})
    for name in ("rms_db", "snr_db", "dc_offset"):
        rows[name] = random.normal(0.02, 0.002, len(rows))
    rows["bandwidth_hz"] = np.where(rows["speaker"] == "studio", 15000.0, random.normal(3900, 20, len(rows)))
    shares = identified_by_channel(rows)
    assert shares["studio"] > 0.95
    assert 0.02 < shares.drop("studio").mean() < 0.2, "chance is 0.09"
    for number in range(10):
        own = rows["speaker"] == f"phone {number}"
        rows.loc[own, "dc_offset"] *= 3**number
    assert identified_by_channel(rows).drop("studio").mean() > 0.7, "an offset of its own gives each away"
    assert identified_by_channel(corpus(4)).empty, "too few clips to say"


@pytest.mark.parametrize("seed", range(4))
def test_largest_cross_speaker_task_is_what_the_sampler_can_draw(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = corpus(20, {"anna": "train", "bert": "train", "carl": "train"})
    rows = rows[random.random(len(rows)) < 0.5].reset_index(drop=True)
    (task,) = word_tasks(rows).to_dict("records")
    largest = int(task["largest"])
    assert task["words"] == rows["text"].nunique()
    shape = {"shot": 1, "queries": 1, "pairing": "cross-speaker"}
    episode = EpisodeSampler(rows, EpisodeShape(way=largest, **shape))(random)  # type: ignore[arg-type]
    assert len(episode.words) == largest
    with pytest.raises(UserError):
        EpisodeSampler(rows, EpisodeShape(way=largest + 1, **shape))  # type: ignore[arg-type]
    matrix = shared_words(rows, 10)
    texts_of = {speaker: set(own["text"]) for speaker, own in rows.groupby("speaker")}
    assert matrix.loc["anna (en)", "bert (en)"] == len(texts_of["anna"] & texts_of["bert"])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda rows: rows.iloc[:1],
        lambda rows: rows.assign(synthetic=True),
        lambda rows: rows.assign(split="", language="", text="", speaker="", source="", license=""),
        lambda rows: rows.assign(
            **{**dict.fromkeys(GOOD, float("nan")), "error": "broken", "sample_rate": 0}
        ),
        lambda rows: rows.assign(speaker=[f"$x^{{{n}$ 你好 <b>" for n in range(len(rows))]),
        lambda rows: rows.assign(**dict.fromkeys(("bandwidth_hz", "clipping", "duration_s"), 0.0)),
    ],
)
@pytest.mark.filterwarnings("error")
@pytest.mark.usefixtures("coarse_charts")
def test_odd_corpora_have_a_page_too(spoil: Callable[[pd.DataFrame], pd.DataFrame], tmp_path: Path) -> None:
    rows = spoil(corpus()).reset_index(drop=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the gate's own
        verdict = judge(rows, Validate())
    page = Page(report_page(rows, verdict, Validate(), tmp_path / "manifest.csv"))
    assert "Quarantined recordings" in page.text
    assert page.tags.count("audio") == 0
    assert ("The recordings are not on this machine" in page.text) == bool(len(verdict.quarantine))
    assert not re.search(r"\bnan\b", page.text)


@pytest.mark.usefixtures("coarse_charts")
def test_hostile_labels_file_names_and_texts_are_inert(recorded_corpus: Path, tmp_path: Path) -> None:
    name = f"{HOSTILE}.wav".replace("/", "\u2044")
    shutil.copy(recorded_corpus / "data" / "4.wav", tmp_path / name)
    rows = corpus(4)
    before = rows.assign(split=rows["split"].where(rows["speaker"] != "dora", "train"))
    for column in ("speaker", "text", "source", "license", "language", "text_kind"):
        rows[column] = np.where(rows.index < 8, HOSTILE + rows["speaker"], rows[column])
    rows.loc[0, ["path", "error"]] = [name, HOSTILE]
    limits = Validate(max_quarantined=0.9)
    page = report_page(rows, judge(rows, limits), limits, tmp_path / "manifest.csv", before, HOSTILE)
    assert Page(page).tags.count("audio") == 1, "the file with the hostile name"
    assert_inert(page)


def test_the_page_stays_small_for_many_speakers(tmp_path: Path) -> None:
    speakers = {f"speaker {number}": ("train", "dev", "test")[number % 3] for number in range(400)}
    rows = corpus(6, speakers)
    page = report_page(rows, judge(rows, Validate()), Validate(), tmp_path / "manifest.csv")
    assert len(page) < 1_500_000
    assert "the first 150 of 400" in page
    assert page.count("<tr>") < 400


def test_the_report_measures_as_prepare_does(
    recorded_corpus: Path, validated: tuple[pd.DataFrame, Verdict]
) -> None:
    rows, _ = validated
    manifest = recorded_corpus / "data" / "manifest.csv"
    folder = recorded_corpus / "prepared"
    folder.mkdir()
    prepared = prepare(
        read_manifest(manifest), manifest, FeatureConfig(), folder, 1, recorded_corpus / "kept"
    )
    pd.testing.assert_frame_equal(
        rows,
        prepared.drop(columns=["first_frame", "frames"]),
        check_like=True,
        check_dtype=False,
        rtol=0,
        atol=1e-6,
    )
    write_manifest(prepared, folder / "manifest.parquet")
    again = read_manifest(manifest)
    assert prepared_rows(folder, again) is not None
    again.loc[3, "text"] = "another"
    assert prepared_rows(folder, again) is None, "prepared of another version"
    assert prepared_rows(folder, again.iloc[:5]) is None
    assert prepared_rows(recorded_corpus, again) is None
