"""Create the work pools in which the stages run: processes of a worker's own checkout, Docker containers, Kubernetes jobs.

`flows/pools/TYPE.json` are the templates of the containers: Prefect's workers fill in their variables.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectNotFound

from flows.project import LOCAL
from metavox.errors import UserError

PROCESS = "process"
TEMPLATES = Path(__file__).with_name("pools")
TYPES = (PROCESS, *sorted(path.stem for path in TEMPLATES.glob("*.json")))


@dataclass(frozen=True)
class Containers:
    """What the containers of a pool are made of: an image, and the git address of the project that they clone."""

    image: str = ""
    repository: str = ""


def parse_types(options: Sequence[str], pools: set[str]) -> dict[str, str]:
    """The type by pool from options of the form NAME=TYPE. Raises UserError unless each is one of `pools` and TYPES."""
    types = {}
    for option in options:
        name, _, kind = option.partition("=")
        if name not in pools or kind not in TYPES:
            raise UserError(
                f"--pool {option}: expected POOL=TYPE with POOL one of {', '.join(sorted(pools))} and TYPE one of "
                f"{', '.join(TYPES)}"
            )
        if name == LOCAL and kind != PROCESS:
            raise UserError(
                f"--pool {option}: pool {LOCAL} runs in the checkout that keeps the results, so its type is {PROCESS}"
            )
        types[name] = kind
    return types


def create_pools(
    client: SyncPrefectClient, pools: set[str], types: Mapping[str, str], containers: Containers
) -> None:
    """Create those of `pools` that the server lacks, as `types` says and otherwise for processes.

    A pool that exists stays as it is. Raises UserError if it is of another type than `types` says.
    """
    for name in sorted(pools):
        kind = types.get(name, PROCESS)
        try:
            existing = client.read_work_pool(name)
        except ObjectNotFound:
            client.create_work_pool(
                WorkPoolCreate(name=name, type=kind, base_job_template=template(kind, containers))
            )
            continue
        if name in types and existing.type != kind:
            raise UserError(
                f"pool {name}: exists with type {existing.type}, not {kind}; to replace it, run "
                f"`prefect work-pool delete {name}` first"
            )


def template(kind: str, containers: Containers) -> dict[str, Any]:
    """The base job template of a pool; empty, which is Prefect's own, for processes.

    Raises UserError if the image or the repository is missing, or the repository's address contains a secret, which
    everybody who sees the pool could read.
    """
    if kind == PROCESS:
        return {}
    if not containers.image or not containers.repository:
        raise UserError(
            f"a {kind} pool needs --image NAME, built from flows/pools/Dockerfile, and --repository URL, a git address "
            "that its containers can clone"
        )
    address = urlsplit(containers.repository)
    if address.password or (address.scheme.startswith("http") and address.username):
        raise UserError(
            f"--repository: the address contains a secret; give https://{address.hostname}{address.path}, and give the "
            "containers a key as docs/operations.md says"
        )
    filled: dict[str, Any] = json.loads((TEMPLATES / f"{kind}.json").read_text(encoding="utf-8"))
    properties = filled["variables"]["properties"]
    properties["image"]["default"] = containers.image
    properties["repository"]["default"] = containers.repository
    return filled


def origin(project: Path) -> str:
    """The address that the checkout's git fetches from; empty without one."""
    command = ["git", "remote", "get-url", "origin"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    return done.stdout.strip()
