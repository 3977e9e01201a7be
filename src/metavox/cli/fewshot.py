"""`metavox fewshot`: measure how well a few recordings of any words teach those words."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from metavox.cli.console import table, waiting
from metavox.cli.manifests import check_readable, labelled, warn_unreadable
from metavox.cli.options import Embedder, Json, Manifest, output
from metavox.errors import UserError
from metavox.files import check_output, write_json

if TYPE_CHECKING:
    from metavox.metrics.fewshot import Study
    from metavox.metrics.slices import Slice


class Column(StrEnum):
    """Manifest columns by which results can be sliced."""

    speaker = "speaker"
    language = "language"
    environment = "environment"
    source = "source"


def fewshot(
    manifest: Manifest,
    way: Annotated[int, typer.Option(min=2, help="Words per episode.")] = 10,
    shot: Annotated[int, typer.Option(min=1, help="Recordings that teach each word.")] = 5,
    queries: Annotated[int, typer.Option(min=1, help="Test recordings of each word.")] = 5,
    episodes: Annotated[
        int, typer.Option(min=1, help="Number of random draws; intervals are over them.")
    ] = 600,
    pairing: Annotated[
        Literal["same-speaker", "cross-speaker", "any"],
        typer.Option(help="Whose recordings test: the same speaker's as teach, another's, or any."),
    ] = "same-speaker",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    json_file: Json = None,
    base: Embedder = None,
    method: Annotated[
        Literal["head", "prototypes", "adapt"],
        typer.Option(
            help="How words are learned; adapt: everything that `metavox adapt` does, including letters."
        ),
    ] = "head",
    views: Annotated[int, typer.Option(min=0, max=64, help="Perturbed copies of each recording.")] = 4,
    mix_languages: Annotated[bool, typer.Option(help="Let an episode mix languages.")] = False,
    shots: Annotated[
        str, typer.Option(metavar="K,K,...", help="Several values of --shot, such as 1,2,5,10,20.")
    ] = "",
    unknown: Annotated[
        int, typer.Option(min=0, help="Additional words per episode that are tested but not taught.")
    ] = 0,
    background: Annotated[
        int, typer.Option(min=0, help="Recordings without speech per episode: rows without a text.")
    ] = 0,
    accept_by: Annotated[
        Literal["similarity", "margin", "probability"],
        typer.Option(help="The score by which a word is accepted."),
    ] = "similarity",
    by: Annotated[
        list[Column], typer.Option(help="Also report each value of this column; may be repeated.")
    ] = [],  # noqa: B006
    before: Annotated[bool, typer.Option(help="Also measure recognition by spelling alone.")] = False,
    report: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Write an HTML report with plots to this file.", callback=output),
    ] = None,
) -> None:
    """Measure N-way K-shot recognition of the words in any labelled recordings, with 95% intervals."""
    from metavox.metrics.fewshot import Protocol
    from metavox.metrics.fewshot import fewshot as run
    from metavox.recognisers.conformer import ConformerRecogniser
    from metavox.session import open_for_words

    for path in (json_file, report):
        if path:
            check_output(path, [manifest])
    rows = labelled(manifest)
    if pairing == "cross-speaker" and rows["speaker"].str.strip().nunique() < 2:
        speaker = rows["speaker"].iloc[0] or "no name"
        raise UserError(
            f"{manifest}: all {len(rows)} recordings have one speaker ({speaker}), but --pairing cross-speaker needs two; "
            "fill the column speaker, or use --pairing any"
        )
    check_readable(rows, manifest)
    shot_counts = _numbers(shots) or [shot]
    embedder = open_for_words(base).embedder
    assert isinstance(embedder, ConformerRecogniser)
    protocol = Protocol(
        way, queries, pairing, unknown, background, episodes, seed, method, accept_by, views, mix_languages
    )
    study = waiting(
        f"{episodes} episodes of {way} words",
        lambda: run(embedder.network, manifest, protocol, shot_counts, before),
    )
    warn_unreadable(list(study.unreadable))
    sliced = {column.value: _sliced(study, column.value) for column in dict.fromkeys(by)}
    _show(study, sliced)
    if json_file:
        write_json(json_file, {**_as_dict(study, sliced), "model": embedder.spec.digest})
    if report:
        _write_report(study, sliced, report)


def _numbers(shots: str) -> list[int]:
    try:
        counts = [int(item) for item in shots.split(",") if item.strip()]
    except ValueError:
        counts = [0]
    if any(count < 1 for count in counts):
        raise UserError(f"--shots {shots}: expected numbers from 1, such as 1,2,5,10,20")
    return counts


def _sliced(study: "Study", column: str) -> "list[Slice]":
    from metavox.metrics.slices import slices

    values = study.rows[column].fillna("").to_numpy(str)
    return slices(study.most.trials, values, study.most.figures.open_set, study.protocol.seed)


def _show(study: "Study", sliced: "dict[str, list[Slice]]") -> None:
    from metavox.metrics.slices import UNNAMED

    protocol = study.protocol
    columns = [f"{shot}-shot" for shot in study.outcomes]
    extra = [
        f"{count} {what}"
        for count, what in ((protocol.unknown, "unknown words"), (protocol.background, "background clips"))
        if count
    ]
    title = ", ".join(
        [
            f"{protocol.way}-way {columns[0] if len(columns) == 1 else 'by shots'}",
            *extra,
            protocol.pairing,
            f"{protocol.episodes} episodes",
            protocol.method,
        ]
    )
    table(title, ("", *(["%"] if len(columns) == 1 else columns)), _lines(study))
    for shot, reason in study.not_drawn.items():
        typer.echo(f"{shot}-shot: not measured: {reason}")
    for column, slices in sliced.items():
        if [one.value for one in slices] == [UNNAMED]:
            typer.echo(f"by {column}: the manifest names none")
            continue
        rates = next((list(one.right) for one in slices if one.right), [])
        heads = (
            column,
            "recordings",
            "episodes",
            "accuracy %",
            *(f"at {100 * r:g}%" for r in rates),
            *(f"false accepts at {100 * r:g}%" for r in rates[-1:]),
        )
        table(f"by {column}, {max(study.outcomes)}-shot", heads, [_slice_line(one, rates) for one in slices])


def _lines(study: "Study") -> list[tuple[str, ...]]:
    from metavox.metrics.episodes import MEASURES

    figures = [one.figures for one in study.outcomes.values()]
    lines = [(name, *(str(getattr(one, name)) for one in figures)) for name in MEASURES]
    if study.before:
        lines.insert(0, ("by spelling alone", *(str(one.accuracy) for one in study.before.values())))
    measured = [one.open_set for one in figures if one.open_set]
    for rate in measured[0].accuracy if measured else ():
        lines.append((f"at {100 * rate:g}% false accepts", *(str(one.accuracy[rate]) for one in measured)))
    if measured:
        lines.append(("equal error rate", *(str(one.equal_error) for one in measured)))
    lines.append(("calibration error", *(str(one.calibration_error) for one in figures)))
    times = [one.adaptation_ms for one in study.outcomes.values()]
    form = "{p50:.0f} ms" if len(times) > 1 else "{p50:.0f} ms (95th percentile {p95:.0f} ms)"
    return [*lines, ("adaptation", *(form.format(**ms) for ms in times))]


def _slice_line(one: "Slice", rates: list[float]) -> tuple[str, ...]:
    about = (one.value, str(one.recordings), str(one.episodes))
    if one.accuracy is None:
        return (*about, "too few", *[""] * (len(rates) + bool(rates)))
    return (
        *about,
        str(one.accuracy),
        *(str(one.right.get(r, "")) for r in rates),
        *(str(one.false_accept.get(r, "")) for r in rates[-1:]),
    )


def _as_dict(study: "Study", sliced: "dict[str, list[Slice]]") -> dict[str, object]:
    """The figures for the most shots at the top level, those for every number of shots in `by_shots`."""
    protocol, most = study.protocol, study.most
    return {
        **most.figures.as_dict(),
        "adaptation_ms": most.adaptation_ms,
        "unreadable": list(study.unreadable),
        "way": protocol.way,
        "shot": max(study.outcomes),
        "queries": protocol.queries,
        "pairing": protocol.pairing,
        "unknown": protocol.unknown,
        "background": protocol.background,
        "seed": protocol.seed,
        "method": protocol.method,
        "accept_by": protocol.scorer,
        "views": protocol.views,
        "mix_languages": protocol.mix_languages,
        "by_shots": {
            str(shot): {**one.figures.as_dict(), "adaptation_ms": one.adaptation_ms}
            for shot, one in study.outcomes.items()
        },
        "not_measured": {str(shot): why for shot, why in study.not_drawn.items()},
        "before": {str(shot): one.as_dict() for shot, one in study.before.items()},
        "slices": {column: [one.as_dict() for one in found] for column, found in sliced.items()},
    }


def _write_report(study: "Study", sliced: "dict[str, list[Slice]]", out: Path) -> None:
    from metavox.files import written_aside
    from metavox.reports.model.fewshot import fewshot_page

    page = waiting("drawing", lambda: fewshot_page(study, sliced))
    with written_aside(out) as aside:
        aside.write_text(page, encoding="utf-8")
    typer.echo(f"report: {out}")
