"""package: bundle the recogniser, its card and the service into one file that can be served anywhere."""

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from metavox.code import code_digest
from metavox.errors import UserError
from metavox.files import written_aside
from metavox.params import Params
from metavox.pipeline.artifacts import write_metrics
from metavox.recognisers.conformer import PROFILE, digest, load_model
from metavox.recognisers.registry import BASE, EMBEDDER
from metavox.telemetry import TELEMETRY_OFF

# A stage, and the keys of its metrics that must be true, and that say why they are not; as in dvc.yaml.
GATES = (("validate", "success", "failed"), ("evaluate", "gate.passed", "gate.reason"))
MEASURED = ("metatrain", "adapt", "evaluate")
NOT_SERVED = ("__pycache__", "*.pyc", "base")
BENTO = "metavox.tar"  # uncompressed: xz would take a minute to halve it
CREATION_TIME = re.compile(rb"(?m)^( *creation_time: ).*$")
DELTAS = "deltas"  # folder in the model of a bundle


def run(params: Params, root: Path) -> None:
    """artifacts/{recogniser,deltas} -> artifacts/bundle/{model/, metavox.tar}, artifacts/metrics/package.json.

    The same inputs give the same bytes at any time and commit. The commit is therefore only printed; dvc.lock ties the
    bundle's digest to a commit. Raises UserError when a gate is closed, a model, delta or project file is missing, or the
    build fails.
    """
    print(f"package: the code is at git commit {commit(root)}", flush=True)
    source = root / "artifacts/recogniser"
    model = load_model(source)
    check_gates(root)
    with written_aside(root / "artifacts/bundle") as bundle:
        assemble(root, params.package.deltas, bundle / "model")
        (bundle / "model/card.md").write_text(card(source, root, params), encoding="utf-8")
        shutil.copy(root / "artifacts/validated/profile.json", bundle / "model" / PROFILE)
        # The build folder is outside .metavox because bentoml refuses hidden files.
        with tempfile.TemporaryDirectory(prefix="metavox-") as folder:
            context, name = Path(folder), params.package.name
            collect(root, context)
            version = content_version(context, bundle / "model")
            out, home = bundle / BENTO, root / ".metavox/bentoml"
            tag = build_bento(context, bundle / "model", name, version, out, home)
        size = (bundle / BENTO).stat().st_size
    parameters = sum(value.numel() for value in model.parameters())
    write_metrics(
        root,
        "package",
        {
            "tag": tag,
            "bytes": size,
            "model_digest": digest(source),
            "parameters": parameters,
            "deltas": list(params.package.deltas),
        },
    )


def check_gates(root: Path) -> None:
    """Raise UserError unless the gates of the data and of the model are open: DVC itself knows no gates."""
    for stage, gate, reason in GATES:
        path = root / "artifacts/metrics" / f"{stage}.json"
        metrics = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if _at(metrics, gate) is not True:
            because = _at(metrics, reason) or f"{path} has no {gate}"
            raise UserError(
                f"the gate of {stage} is closed ({because if isinstance(because, str) else ', '.join(because)}); "
                "nothing was bundled, and the last bundle stays as it is"
            )


def _at(values: dict[str, Any], dotted: str) -> Any:
    for key in dotted.split("."):
        values = values.get(key, {}) if isinstance(values, dict) else {}
    return values


def assemble(root: Path, deltas: Sequence[str], folder: Path) -> None:
    """Copy what is served into `folder`: the base model, the embedder where it is another model, and the named deltas.

    Raises UserError for a delta that does not exist.
    """
    trained = root / "artifacts/recogniser"
    if (trained / BASE).is_dir():
        shutil.copytree(trained / BASE, folder)
        shutil.copytree(trained, folder / EMBEDDER, ignore=shutil.ignore_patterns("arms", BASE))
    else:
        shutil.copytree(trained, folder, ignore=shutil.ignore_patterns("arms"))
    for name in deltas:
        delta = root / "artifacts/deltas" / name
        if not delta.is_dir():
            available = ", ".join(sorted(p.name for p in delta.parent.iterdir() if p.is_dir())) or "none"
            raise UserError(f"package.deltas: no delta {name}; expected some of {available}")
        shutil.copytree(delta, folder / DELTAS / name.lower())  # the service uses names in lower case


def collect(root: Path, context: Path) -> None:
    """Copy what the Bento is built from, and nothing else, because BentoML walks its whole build folder.

    Raises UserError when the project lacks bentofile.yaml or requirements.lock.
    """
    for name in ("bentofile.yaml", "requirements.lock"):
        if not (root / name).is_file():
            raise UserError(f"{root / name}: no such file; run package in the project's folder")
        shutil.copy(root / name, context)
    source = Path(__file__).parents[1]
    shutil.copytree(source, context / "src" / source.name, ignore=shutil.ignore_patterns(*NOT_SERVED))


def build_bento(context: Path, model: Path, name: str, version: str, out: Path, home: Path) -> str:
    """Build `context`/bentofile.yaml with the model folder into the file `out`; returns the Bento's tag.

    The build has its own process, because BentoML reads BENTOML_HOME only once and changes the working folder and import
    path. Its state is in a temporary folder in `home`. Raises UserError with BentoML's last lines when the build fails.
    """
    home.mkdir(parents=True, exist_ok=True)
    code = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    arguments = [str(context.absolute()), str(model.absolute()), name, version, str(out.absolute())]
    with tempfile.TemporaryDirectory(prefix="build-", dir=home.absolute()) as state:
        own = {"BENTOML_HOME": state, "PYTHONPATH": os.pathsep.join(code)}
        build = subprocess.run(
            [sys.executable, "-m", "metavox.stages.package", *arguments],
            env={**os.environ, **TELEMETRY_OFF, **own},
            capture_output=True,
            text=True,
            check=False,
        )
    if build.returncode:
        output = [line.strip() for line in (build.stderr + build.stdout).splitlines() if line.strip()]
        raise UserError(f"bentoml build failed: {' | '.join(output[-3:])[-600:]}")
    return f"{name}:{version}"


def _build(context: str, model: str, name: str, version: str, out: str) -> None:
    import bentoml

    model_tag = f"{name}-recogniser:{version}"
    with bentoml.models.create(model_tag) as stored:
        shutil.copytree(model, stored.path, dirs_exist_ok=True)
    options = yaml.safe_load(Path(context, "bentofile.yaml").read_text(encoding="utf-8"))
    options["models"] = [{"tag": model_tag, "alias": "recogniser"}]
    bento = bentoml.bentos.build(name=name, version=version, build_ctx=context, **options)
    with tempfile.TemporaryDirectory() as folder:
        exported = bento.export(str(Path(folder, "bento.tar")))
        write_without_times(Path(exported), Path(out))


def write_without_times(archive: Path, out: Path) -> None:
    """Repack a Bento's tar file reproducibly: the same files give the same bytes.

    Members are sorted by name and have one time, one owner and one of two modes; creation times inside are replaced.
    """
    with tarfile.open(archive) as source, tarfile.open(out, "w", format=tarfile.USTAR_FORMAT) as target:
        for member in sorted(source.getmembers(), key=lambda member: member.name):
            plain = tarfile.TarInfo(member.name)
            plain.type, plain.size = member.type, member.size
            plain.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            if not member.isfile():
                target.addfile(plain)
            elif (file := source.extractfile(member)) is not None:
                data = file.read()
                if Path(member.name).name in ("bento.yaml", "model.yaml"):
                    data = CREATION_TIME.sub(rb"\1'1970-01-01T00:00:00+00:00'", data)
                    plain.size = len(data)
                target.addfile(plain, io.BytesIO(data))


def content_version(*folders: Path) -> str:
    """A version that depends only on the paths and contents of the files."""
    total = hashlib.sha256()
    for folder in folders:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            total.update(f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n".encode())
            total.update(path.read_bytes())
    return total.hexdigest()[:12]


def card(source: Path, root: Path, params: Params) -> str:
    """The model's own card, followed by its origin, metrics, data licences and parameters."""
    path = source / "card.md"
    own = path.read_text(encoding="utf-8").rstrip() if path.is_file() else "# metavox recogniser"
    origin = [
        f"- model digest: `{digest(source)}`",
        f"- data digest: `{data_digest(root)}`",
        f"- code digest: `{code_digest('metavox.stages.metatrain')}`, of all code that the training imports",
    ]
    values = yaml.safe_dump(
        params.model_dump(mode="json", by_alias=True, exclude={"ablation"}), sort_keys=False
    )
    parts = [
        own,
        "## Origin",
        "\n".join(origin),
        "## Metrics",
        metrics_table(root),
        "## Licences of the data",
        licence_table(root),
        "## Parameters",
        f"```yaml\n{values}```",
    ]
    return "\n\n".join(parts) + "\n"


def data_digest(root: Path) -> str:
    try:
        return str(yaml.safe_load((root / "data.dvc").read_text(encoding="utf-8"))["outs"][0]["md5"])
    except (OSError, yaml.YAMLError, KeyError, IndexError, TypeError):
        return "unknown: no data.dvc"


def commit(root: Path) -> str:
    """The current commit, with a remark when tracked files have changed since."""
    head = _git(root, "rev-parse", "HEAD")
    if not head:
        return "unknown: not in git"
    return f"{head} and changes since" if _git(root, "status", "--porcelain", "-uno") else head


def metrics_table(root: Path) -> str:
    """A Markdown table of the metrics of the stages MEASURED."""
    rows = []
    for stage in MEASURED:
        path = root / "artifacts/metrics" / f"{stage}.json"
        if path.is_file():
            rows += [(stage, *pair) for pair in _flat(json.loads(path.read_text(encoding="utf-8")))]
    if not rows:
        return "Not measured."
    return "\n".join(
        ["| stage | metric | value |", "|---|---|---|", *(f"| {s} | {k} | {v} |" for s, k, v in rows)]
    )


def licence_table(root: Path) -> str:
    """A Markdown table of the number of recordings by licence and source."""
    path = root / "artifacts/validated/manifest.parquet"
    if not path.is_file():
        return "Unknown: no validated manifest."
    rows = pd.read_parquet(path, columns=["license", "source"]).replace("", "not stated")
    counts = rows.groupby(["license", "source"], sort=True).size().reset_index(name="recordings")
    lines = [f"| {row.license} | {row.source} | {row.recordings} |" for row in counts.itertuples(index=False)]
    return "\n".join(["| licence | source | recordings |", "|---|---|---|", *lines])


def _flat(value: object, key: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [pair for k, v in value.items() for pair in _flat(v, f"{key}.{k}" if key else str(k))]
    return [(key, f"{value:.4g}" if isinstance(value, float) else str(value))]


def _git(root: Path, *arguments: str) -> str:
    try:
        result = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


if __name__ == "__main__":
    _build(*sys.argv[1:])
