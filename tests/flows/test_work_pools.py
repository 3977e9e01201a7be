"""Work pools of containers: the templates as Prefect's own workers read them, and a run as a container would run it."""

import asyncio
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import docker
import pytest
import yaml
from docker.models.containers import _create_container_args
from kubernetes_asyncio.client import ApiClient
from prefect.blocks.system import Secret
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_docker.worker import DockerWorker, DockerWorkerJobConfiguration
from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration
from small_project import REPO

from flows.work_pools import Containers, create_pools, parse_types, template
from metavox.errors import UserError

MADE_OF = Containers("registry/metavox:1", "https://git.example/project.git")
FLOW = """
import os
from pathlib import Path

from prefect import flow


@flow
def hello() -> None:
    Path("said").write_text(os.environ["TOKEN"])
"""


@pytest.fixture
def client(server: str) -> Iterator[SyncPrefectClient]:
    with temporary_settings({PREFECT_API_URL: server}), get_client(sync_client=True) as client:
        for pool in ("gpu", "cpu"):
            with suppress(ObjectNotFound):
                client.delete_work_pool(pool)
        yield client


def job(kind: Any, base: dict[str, Any], **variables: Any) -> Any:
    """What a worker of this kind makes of the template for a flow run."""

    async def filled() -> Any:
        async with get_client() as client:
            return await kind.from_template_and_values(base, variables, client=client)

    configuration = asyncio.run(filled())
    configuration.prepare_for_flow_run(FlowRun(id=uuid4(), flow_id=uuid4(), name="train at c0ffee"))
    return configuration


def container(**variables: Any) -> dict[str, Any]:
    """The request that the Docker worker sends to the daemon to create a container."""
    variables["env"] = {"PREFECT_API_URL": "https://prefect.example/api"}
    configuration = job(DockerWorkerJobConfiguration, template("docker", MADE_OF), **variables)
    daemon = docker.DockerClient("tcp://127.0.0.1:9", version="1.47")  # not called
    worker = DockerWorker(work_pool_name="gpu", test_mode=True)
    arguments = worker._build_container_settings(daemon, configuration)
    arguments = _create_container_args({**arguments, "version": "1.47"})
    del arguments["name"]  # part of the address, not of the request
    return dict(daemon.api.create_container_config(**arguments))


@pytest.mark.usefixtures("client")
def test_a_docker_container_gets_the_gpus_and_no_privileges() -> None:
    request = container()
    assert request["Image"] == MADE_OF.image
    assert request["Cmd"] == ["prefect", "flow-run", "execute"]
    assert f"METAVOX_REPOSITORY={MADE_OF.repository}" in request["Env"]
    assert request["User"] == "1000:1000"
    host = request["HostConfig"]
    (gpus,) = host["DeviceRequests"]
    assert (gpus["Driver"], gpus["Count"], gpus["Capabilities"]) == ("nvidia", -1, [["gpu"]])
    assert host["ShmSize"] == 8 << 30
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert not host.get("Privileged")
    assert not host.get("Binds")
    two = container(gpus=2, volumes=["/etc/metavox/ssh:/home/metavox/.ssh:ro"])["HostConfig"]
    assert two["DeviceRequests"][0]["Count"] == 2
    assert two["Binds"] == ["/etc/metavox/ssh:/home/metavox/.ssh:ro"]


@pytest.mark.usefixtures("client")
def test_a_kubernetes_job_gets_the_gpus_and_no_privileges() -> None:
    base = template("kubernetes", MADE_OF)
    manifest = job(KubernetesWorkerJobConfiguration, base, gpus=2, memory_limit="64Gi").job_manifest
    pod = manifest["spec"]["template"]["spec"]
    (main,) = pod["containers"]
    assert main["image"] == MADE_OF.image
    assert main["args"] == ["prefect", "flow-run", "execute"]
    assert {"name": "METAVOX_REPOSITORY", "value": MADE_OF.repository} in main["env"]
    assert main["resources"]["limits"] == {"nvidia.com/gpu": 2, "memory": "64Gi"}
    assert {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}} in pod["volumes"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert main["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert main["envFrom"] == [{"secretRef": {"name": "metavox", "optional": True}}]
    assert unknown_fields(manifest) == []


def unknown_fields(manifest: dict[str, Any]) -> list[str]:
    """What of a job's manifest is not in the client's models of Kubernetes' API."""

    async def known() -> Any:
        async with ApiClient() as api:
            job = api.deserialize(SimpleNamespace(data=json.dumps(manifest)), "V1Job")
            return api.sanitize_for_serialization(job)

    # Prefect insists on these two in a place where Kubernetes ignores them.
    return sorted(missing(manifest, asyncio.run(known())) - {f"spec.template.spec.{key}" for key in PREFECTS})


PREFECTS = ("parallelism", "completions")


def missing(value: Any, known: Any, path: str = "") -> set[str]:
    if isinstance(value, dict) and isinstance(known, dict):
        pairs = [(f"{path}.{key}".lstrip("."), item, known.get(key)) for key, item in value.items()]
    elif isinstance(value, list) and isinstance(known, list) and len(value) == len(known):
        pairs = [(f"{path}.{number}", *both) for number, both in enumerate(zip(value, known, strict=True))]
    else:
        return set() if str(value) == str(known) else {path}
    return {name for where, item, other in pairs for name in missing(item, other, where)}


@pytest.mark.usefixtures("client")
def test_a_misspelt_field_of_a_manifest_is_found() -> None:
    manifest = job(KubernetesWorkerJobConfiguration, template("kubernetes", MADE_OF)).job_manifest
    manifest["spec"]["template"]["spec"]["containers"][0]["resource"] = {}
    assert unknown_fields(manifest) == ["spec.template.spec.containers.0.resource"]


def test_a_pool_is_created_once(client: SyncPrefectClient) -> None:
    create_pools(client, {"cpu", "gpu"}, {"gpu": "kubernetes"}, MADE_OF)
    assert client.read_work_pool("cpu").type == "process"
    gpu = client.read_work_pool("gpu")
    assert gpu.type == "kubernetes"
    assert gpu.base_job_template == template("kubernetes", MADE_OF)
    create_pools(client, {"cpu", "gpu"}, {"gpu": "kubernetes"}, Containers())
    create_pools(client, {"cpu", "gpu"}, {}, Containers())
    assert client.read_work_pool("gpu").base_job_template == gpu.base_job_template
    with pytest.raises(UserError, match="pool gpu: exists with type kubernetes, not docker; to replace it"):
        create_pools(client, {"cpu", "gpu"}, {"gpu": "docker"}, MADE_OF)


@pytest.mark.parametrize("option", ["gpu", "gpu=", "gpu=podman", "tpu=docker", "cpu=docker"])
def test_an_impossible_pool_is_one_line(option: str) -> None:
    with pytest.raises(UserError, match=f"--pool {option}: ") as caught:
        parse_types([option], {"cpu", "gpu"})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("made_of", "message"),
    [
        (Containers("", "https://git.example/x"), "needs --image NAME"),
        (Containers("image", ""), "and --repository URL"),
        (Containers("image", "https://me:secret@git.example/x"), "give https://git.example/x"),
        (Containers("image", "https://token@git.example/x"), "contains a secret"),
    ],
)
def test_containers_need_an_image_and_an_address_without_a_secret(made_of: Containers, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        template("docker", made_of)
    assert "secret@" not in str(caught.value)
    assert "token@" not in str(caught.value)


def test_a_run_clones_the_project_and_knows_its_secrets(client: SyncPrefectClient, tmp_path: Path) -> None:
    """All that a container does, without the container: the template's environment, entry.sh and the worker's command."""
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "hello.py").write_text(FLOW)
    (repository / "dvc.yaml").touch()
    for command in (
        ("init", "--quiet"),
        ("add", "-A"),
        ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "x"),
    ):
        subprocess.run(["git", *command], cwd=repository, check=True)
    create_pools(client, {"gpu"}, {"gpu": "docker"}, Containers("image", str(repository)))
    Secret(value="not to be seen").save("metavox-token", overwrite=True)
    deployment = client.create_deployment(
        flow_id=client.create_flow_from_name("hello"),
        name="hello",
        work_pool_name="gpu",
        entrypoint="hello.py:hello",
        pull_steps=yaml.safe_load((REPO / "prefect.yaml").read_text())["pull"],
        job_variables={"env": {"TOKEN": "{{ prefect.blocks.secret.metavox-token }}"}},
    )
    run = client.create_flow_run_from_deployment(deployment)

    async def configured() -> Any:
        async with get_client() as asynchronous:
            return await DockerWorkerJobConfiguration.resolve_for_flow_run(
                run,
                client=asynchronous,
                work_pool=await asynchronous.read_work_pool("gpu"),
                worker_name="worker",
            )

    configuration = asyncio.run(configured())
    here = {
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        "METAVOX_PROJECT": str(tmp_path / "clone"),
        "PREFECT_HOME": str(tmp_path / "home"),
    }
    done = subprocess.run(
        ["sh", str(REPO / "flows/pools/entry.sh"), *shlex.split(configuration.command)],
        env={**configuration.env, **here},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    state = client.read_flow_run(run.id).state
    assert state is not None
    assert state.is_completed(), done.stdout + done.stderr
    assert (tmp_path / "clone" / "said").read_text() == "not to be seen"
    assert "not to be seen" not in json.dumps(client.read_work_pool("gpu").base_job_template)
