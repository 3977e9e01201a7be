"""`metavox doctor`: check whether this machine and checkout can run metavox, and say what to do if not."""

import importlib
import os
import re
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal

import typer
import yaml

from metavox.cli.options import output
from metavox.files import write_json
from metavox.telemetry import disable_telemetry

State = Literal["ok", "warn", "fail"]
PORTS = {3000: "metavox serve", 4200: "a Prefect server"}
MIN_MEMORY_GB, MIN_DISK_GB = 4, 5
GIGA = 1e9


@dataclass(frozen=True)
class Finding:
    """One line of the report; `advice` says what to do unless the state is ok."""

    subject: str
    state: State
    found: str
    advice: str = ""


def doctor(
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the findings to this file.", callback=output)
    ] = None,
) -> None:
    """Check Python, packages, machine, data and ports. Exits with status 1 if something will not work."""
    findings = []
    for finding in examine(Path()):
        typer.echo(f"{finding.state:4}  {finding.subject}: {finding.found}")
        if finding.advice and finding.state != "ok":
            typer.echo(f"      -> {finding.advice}")
        findings.append(finding)
    failed = any(finding.state == "fail" for finding in findings)
    if json_file is not None:
        write_json(json_file, {"ok": not failed, "findings": [asdict(finding) for finding in findings]})
    raise typer.Exit(code=int(failed))


def examine(project: Path) -> Iterator[Finding]:
    """Yield all findings about this machine and the checkout at `project`."""
    disable_telemetry()
    checks: tuple[Callable[[Path], Iterator[Finding]], ...] = (
        _python,
        _packages,
        _torch,
        _machine,
        _apt,
        _data,
        _artifacts,
        _ports,
    )
    for check in checks:
        yield from check(project)


def _python(_project: Path) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    supported = sys.version_info[:2] == (3, 11)
    yield Finding("python", "ok" if supported else "fail", version, "use Python 3.11: make setup")


def _packages(project: Path) -> Iterator[Finding]:
    lock = project / "requirements.lock"
    if not lock.is_file():
        yield Finding("packages", "warn", "no requirements.lock here", "run in the project's folder")
        return
    lines = lock.read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    installed = {
        _normalised(item.metadata["Name"]): item.version.split("+")[0] for item in metadata.distributions()
    }
    missing = [name for name in pinned if _normalised(name) not in installed]
    other = [
        f"{name} {installed[_normalised(name)]} (lock: {version})"
        for name, version in pinned.items()
        if _normalised(name) in installed and installed[_normalised(name)] != version
    ]
    if missing:
        yield Finding("packages", "fail", f"missing: {', '.join(missing)}", "make setup")
    elif other:
        yield Finding("packages", "warn", f"not the locked versions: {', '.join(other)}", "make setup")
    else:
        yield Finding("packages", "ok", f"{len(pinned)}, all at the versions of requirements.lock")
    main = ", ".join(f"{name} {installed.get(name, 'missing')}" for name in ("dvc", "prefect", "bentoml"))
    yield Finding("planes", "fail" if "missing" in main else "ok", main, "make setup")


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _torch(_project: Path) -> Iterator[Finding]:
    for name in ("torch", "torchaudio"):
        try:
            module = importlib.import_module(name)
        except (ImportError, OSError) as error:
            line = str(error).splitlines()[0]
            yield Finding(
                name, "fail", f"does not import: {line}", "make setup (see tools/torchaudio_cpu.py)"
            )
            return
        yield Finding(name, "ok", module.__version__ + _other_build(module))
    import torch

    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none; training runs on the CPU"
    yield Finding("gpu", "ok", device)


def _other_build(module: ModuleType) -> str:
    """Why a package built for CUDA works with a torch built for the CPU; empty if the builds match."""
    import torch

    build = module.__version__.partition("+")[2]
    if not build.startswith("cu") or torch.version.cuda is not None:
        return ""
    return (
        " (built for CUDA, while torch is built for the CPU: it imports because `make setup` removed its compiled "
        "extension, and metavox needs only its Python code)"
    )


def _machine(project: Path) -> Iterator[Finding]:
    yield Finding("cores", "ok", str(len(os.sched_getaffinity(0))))
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIGA
    enough = memory_gb >= MIN_MEMORY_GB
    yield Finding(
        "memory", "ok" if enough else "warn", f"{memory_gb:.0f} GB", f"metavox needs {MIN_MEMORY_GB} GB"
    )
    free_gb = shutil.disk_usage(project).free / GIGA
    enough = free_gb >= MIN_DISK_GB
    yield Finding(
        "disk",
        "ok" if enough else "warn",
        f"{free_gb:.0f} GB free",
        f"metavox needs {MIN_DISK_GB} GB; free some space",
    )


def _apt(_project: Path) -> Iterator[Finding]:
    """Check apt, because the demo corpus comes from Debian packages."""
    if shutil.which("apt-get") is None:
        advice = "the demo corpus needs Debian or Ubuntu; your own recordings do not"
        yield Finding("apt", "warn", "no apt-get on this machine", advice)
        return
    lists = list(Path("/var/lib/apt/lists").glob("*_Packages*"))
    found = f"apt-get, {len(lists)} package lists"
    yield Finding("apt", "ok" if lists else "warn", found, "run apt-get update before metavox corpus build")


def _data(project: Path) -> Iterator[Finding]:
    build = "metavox corpus build --profile demo, or make demo"
    if not (project / "data" / "manifest.csv").is_file():
        yield Finding("data", "warn", "no data/manifest.csv", build)
        return
    pin = project / "data.dvc"
    if not pin.is_file():
        yield Finding("data", "warn", "data/ is not pinned", "dvc add data")
        return
    out = yaml.safe_load(pin.read_text(encoding="utf-8"))["outs"][0]
    files = [path for path in (project / "data").rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    same = (len(files), size) == (out.get("nfiles"), out.get("size"))
    found = f"{len(files)} files, {size / 1e6:.1f} MB"
    if same:
        yield Finding("data", "ok", f"{found}, as in data.dvc (dvc status data.dvc compares the bytes)")
    else:
        yield Finding("data", "warn", f"{found}, unlike data.dvc", "dvc status data.dvc; then dvc add data")


def _artifacts(project: Path) -> Iterator[Finding]:
    pipeline = project / "dvc.yaml"
    if not pipeline.is_file():
        yield Finding("artifacts", "warn", "no dvc.yaml here", "run in the project's folder")
        return
    stages = yaml.safe_load(pipeline.read_text(encoding="utf-8"))["stages"]
    missing = [
        name for name, stage in stages.items() if not all((project / out).exists() for out in stage["outs"])
    ]
    if missing:
        yield Finding("artifacts", "warn", f"none yet from {', '.join(missing)}", "make demo, or dvc repro")
    else:
        yield Finding("artifacts", "ok", f"from all {len(stages)} stages")


def _ports(_project: Path) -> Iterator[Finding]:
    for port, user in PORTS.items():
        with socket.socket() as probe:
            in_use = probe.connect_ex(("127.0.0.1", port)) == 0
        found = f"{'in use' if in_use else 'free'} (for {user})"
        yield Finding(
            f"port {port}",
            "warn" if in_use else "ok",
            found,
            "stop the program that listens there, or use --port",
        )
