"""The way into production: the compose file, the image, their settings and scripts, and CI's own entry."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client

from abeyance.attributes import check
from abeyance.devserver import temporal_binary
from abeyance.errors import ConfigurationError
from abeyance.settings import Settings
from tests.conftest import Start
from tests.support import ROOT

COMPOSE = ROOT / "docker-compose.yml"
EXAMPLE = ROOT / ".env.example"
JOBS = {"schema", "namespace"}
ASSIGNMENT = re.compile(r"^#?([A-Z][A-Z0-9_]*)=(.*)$")


def compose_program() -> str:
    """The path of docker-compose: a test that needs it is skipped without it, but never in CI."""
    found = shutil.which("docker-compose")
    if found:
        return found
    if os.environ.get("CI") == "true":
        pytest.fail("docker-compose is not installed, and CI=true")
    pytest.skip("docker-compose is not installed")


def run_compose(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run docker-compose on the file, with nothing of this machine's environment but the PATH."""
    return subprocess.run(
        [compose_program(), "-f", str(COMPOSE), *arguments],
        env={"PATH": os.environ["PATH"], "HOME": "/nowhere"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def with_defaults(text: str) -> str:
    """`text` as compose would fill it in without a .env."""
    return re.sub(r"\$\{(\w+)(?::[-?]([^}]*))?\}", lambda match: match[2] or "", text)


def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(with_defaults(COMPOSE.read_text()))
    return document


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose()["services"]
    return found


def example() -> dict[str, str]:
    """The names in .env.example with their values, those that are commented out too."""
    return {m[1]: m[2] for line in EXAMPLE.read_text().splitlines() if (m := ASSIGNMENT.match(line))}


def settings_known() -> set[str]:
    """The settings that a worker reads, by the account of `Settings.from_env`, without those that only tests set."""
    with pytest.raises(ConfigurationError) as refused:
        Settings.from_env({"ABEYANCE_NO_SUCH_SETTING": "x"})
    known = set(re.findall(r"ABEYANCE_\w+", str(refused.value))) - {"ABEYANCE_NO_SUCH_SETTING"}
    of_others = {"ABEYANCE_CODEC_TOKEN", "ABEYANCE_WORKER_TIMEOUT"}
    return {name for name in known if not name.startswith("ABEYANCE_TEST_")} - of_others


def seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


def copies() -> list[tuple[list[str], str]]:
    """The Dockerfile's COPY lines: sources and target."""
    lines = [line.split()[1:] for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("COPY ")]
    return [(words[:-1], words[-1]) for words in lines]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The image's /app: what the Dockerfile copies, and nothing else."""
    app = tmp_path / "app"
    app.mkdir()
    for sources, target in copies():
        for source in sources:
            origin = ROOT / source
            if origin.is_dir():
                shutil.copytree(origin, app / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(origin, app / target)
    return app


def test_the_compose_file_is_valid_with_nothing_but_a_password(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("POSTGRES_PASSWORD=x\n")
    checked = run_compose("--env-file", str(tmp_path / "env"), "config", "-q")
    assert checked.returncode == 0, checked.stderr


def test_the_compose_file_is_valid_with_the_example_as_env_file() -> None:
    checked = run_compose("--env-file", str(EXAMPLE), "config", "-q")
    assert checked.returncode == 0, checked.stderr
    assert "variable is not set" not in checked.stderr


def test_compose_refuses_to_start_without_a_password(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("POSTGRES_PASSWORD=\n")
    checked = run_compose("--env-file", str(tmp_path / "env"), "config", "-q")
    assert checked.returncode != 0
    assert "POSTGRES_PASSWORD" in checked.stderr


def test_the_password_comes_from_the_env_file_wherever_it_is_used() -> None:
    given = dict(
        re.findall(r"^ +(POSTGRES_PASSWORD|POSTGRES_PWD|SQL_PASSWORD): (.*)$", COMPOSE.read_text(), re.MULTILINE)
    )
    assert set(given) == {"POSTGRES_PASSWORD", "POSTGRES_PWD", "SQL_PASSWORD"}
    assert {value for value in given.values() if not value.startswith("${POSTGRES_PASSWORD:?")} == set()


def test_in_ci_a_missing_docker_compose_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception):
        compose_program()
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception):
        compose_program()


def test_every_image_has_a_pinned_tag() -> None:
    images = {name: service["image"] for name, service in services().items()}
    images["Dockerfile"] = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[0]
    for name, image in images.items():
        assert re.search(r":\d[\w.\-]*$", image), f"{name}: {image}"


def test_the_workers_image_has_the_version_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert services()["worker"]["image"] == f"abeyance-worker:{version}"


def test_ports_are_published_on_loopback_only_by_default() -> None:
    ports = [port for service in services().values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)] == []
    assert "ports" not in services()["postgres"]
    assert example()["BIND_ADDRESS"] == "127.0.0.1"


def test_every_service_that_stays_up_is_health_checked_and_restarted() -> None:
    staying = {name: service for name, service in services().items() if name not in JOBS}
    assert {name for name, service in staying.items() if not service.get("healthcheck", {}).get("test")} == set()
    assert {name for name, service in staying.items() if service.get("restart") != "unless-stopped"} == set()


def test_services_start_in_the_order_that_temporal_needs() -> None:
    order = {
        name: {other: how["condition"] for other, how in service.get("depends_on", {}).items()}
        for name, service in services().items()
    }
    assert order == {
        "postgres": {},
        "schema": {"postgres": "service_healthy"},
        "temporal": {"schema": "service_completed_successfully"},
        "namespace": {"temporal": "service_healthy"},
        "ui": {"namespace": "service_completed_successfully"},
        "worker": {"namespace": "service_completed_successfully"},
    }


def test_data_lives_in_named_volumes() -> None:
    named = set(compose()["volumes"])
    assert "postgres:/var/lib/postgresql/data" in services()["postgres"]["volumes"]
    assert services()["worker"]["volumes"] == ["workspace:/workspace", "sessions:/sessions"]
    assert {"postgres", "sessions", "workspace"} <= named


def test_every_host_path_that_is_mounted_exists_and_is_read_only() -> None:
    mounted = [volume for service in services().values() for volume in service.get("volumes", []) if volume[0] == "."]
    assert mounted
    for volume in mounted:
        source, _, mode = volume.split(":")
        assert (ROOT / source).exists(), volume
        assert mode == "ro", volume


def test_the_worker_can_be_scaled() -> None:
    worker = services()["worker"]
    assert {"container_name", "ports", "hostname"} & set(worker) == set()


def test_the_worker_has_longer_to_stop_than_its_turns() -> None:
    assert seconds(services()["worker"]["stop_grace_period"]) > Settings.shutdown_grace
    assert seconds(example()["WORKER_STOP_GRACE"]) > float(example()["ABEYANCE_SHUTDOWN_GRACE"])


def test_the_worker_gets_every_setting_and_not_the_database_password() -> None:
    environment = services()["worker"]["environment"]
    assert {name for name in environment if name.startswith("ABEYANCE_")} == settings_known()
    assert not any("POSTGRES" in name or "SQL" in name for name in environment)


def test_the_server_reads_a_dynamic_config_that_is_mounted() -> None:
    temporal = services()["temporal"]
    source, target, _ = temporal["volumes"][0].split(":")
    path = Path(temporal["environment"]["DYNAMIC_CONFIG_FILE_PATH"])
    values = yaml.safe_load((ROOT / source / path.relative_to(target)).read_text())
    assert values == {"limit.maxIDLength": [{"value": 255}]}


def test_the_example_has_every_variable_of_the_compose_file_and_no_other() -> None:
    text = "\n".join(line for line in COMPOSE.read_text().splitlines() if not line.lstrip().startswith("#"))
    used = set(re.findall(r"(?<!\$)\$\{(\w+)", text))
    passed = {name for name, value in services()["worker"]["environment"].items() if value is None}
    assert set(example()) == used | passed


def test_the_example_has_every_setting_and_they_can_all_be_used() -> None:
    abeyance = {name: value for name, value in example().items() if name.startswith("ABEYANCE_")}
    assert set(abeyance) == settings_known()
    settings = Settings.from_env(abeyance)
    assert (settings.heartbeat_timeout, settings.shutdown_grace) == (
        Settings.heartbeat_timeout,
        Settings.shutdown_grace,
    )


def test_the_example_explains_every_variable() -> None:
    """Each group of variables has a comment directly above it, but for the ports, which share one."""
    blocks = EXAMPLE.read_text().split("\n\n")
    assert [b for b in blocks if re.search(r"^[A-Z]", b, re.MULTILINE) and not b.lstrip().startswith("#")] == []


def test_what_the_image_is_made_of_exists_and_is_not_ignored() -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    sources = [source for sources, _ in copies() for source in sources]
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert set(sources) == let_in


def test_the_image_holds_no_secret_and_no_more_than_it_runs(image: Path) -> None:
    held = {path.name for path in image.iterdir()}
    modules = {"worker.py", "starter.py", "healthcheck.py"}
    assert held == {"abeyance", "activities", "agents", "workflows", "requirements-runtime.lock"} | modules
    assert "POSTGRES" not in (ROOT / "Dockerfile").read_text()


def test_worker_and_starter_import_from_what_the_image_holds(image: Path) -> None:
    code = "import worker, starter, abeyance; print(worker.__file__, abeyance.__file__)"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    imported = subprocess.run(
        [sys.executable, "-c", code], cwd=image, env=environment, capture_output=True, text=True, check=False
    )
    assert imported.returncode == 0, imported.stderr
    assert all(path.startswith(str(image)) for path in imported.stdout.split())


def test_the_agents_load_from_what_the_image_holds(image: Path) -> None:
    code = "from abeyance.registry import load_agents; print(*sorted(load_agents(['agents'])))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=image, capture_output=True, text=True, check=False)
    assert loaded.stdout.split() == ["file-manager", "smart-delete", "trusted-file-manager"], loaded.stderr


def test_the_container_runs_python_itself_and_not_as_root() -> None:
    """With a shell between Docker and Python, SIGTERM would not arrive."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert 'CMD ["python", "worker.py"]' in lines
    assert not any(line.startswith("ENTRYPOINT") for line in lines)
    assert [line for line in lines if line.startswith("USER ")] == ["USER abeyance"]
    assert any("PYTHONUNBUFFERED=1" in line for line in lines if line.startswith("ENV "))


def test_the_image_installs_from_hashes_what_the_tests_ran_with() -> None:
    runtime, everything = (
        dict(re.findall(r"^([\w.\-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))
        for name in ("requirements-runtime.lock", "requirements.lock")
    )
    assert "--require-hashes" in (ROOT / "Dockerfile").read_text()
    assert runtime.items() <= everything.items()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {re.split(r"[<>=\[]", wanted)[0] for wanted in project["dependencies"]} <= set(runtime)
    assert {"pytest", "mypy", "ruff"} & set(runtime) == set()


def test_the_schema_job_makes_both_databases(tmp_path: Path) -> None:
    """With a stand-in for the tool that notes how it was called; the real one needs the real image."""
    calls = tmp_path / "calls"
    tool = tmp_path / "temporal-sql-tool"
    tool.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n')
    tool.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    subprocess.run(["/bin/sh", ROOT / "deploy/schema.sh"], env={"PATH": path}, check=True)
    schemas = "/etc/temporal/schema/postgresql/v12"
    assert calls.read_text().splitlines() == [
        "--db temporal create",
        "--db temporal setup-schema -v 0.0",
        f"--db temporal update-schema -d {schemas}/temporal/versioned",
        "--db temporal_visibility create",
        "--db temporal_visibility setup-schema -v 0.0",
        f"--db temporal_visibility update-schema -d {schemas}/visibility/versioned",
    ]


def test_the_schema_job_fails_as_soon_as_a_step_does(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    tool = tmp_path / "temporal-sql-tool"
    tool.write_text(f'#!/bin/sh\necho "$@" >> {calls}\nexit 1\n')
    tool.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(["/bin/sh", ROOT / "deploy/schema.sh"], env={"PATH": path}, check=False)
    assert done.returncode != 0
    assert calls.read_text().splitlines() == ["--db temporal create"]


def run_namespace_job(address: str, namespace: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", ROOT / "deploy/namespace.sh"],
        env={
            "PATH": f"{Path(temporal_binary()).parent}:{os.environ['PATH']}",
            "HOME": "/nowhere",
            "TEMPORAL_ADDRESS": address,
            "TEMPORAL_NAMESPACE": namespace,
            "RETENTION": "720h",
        }
        | environment,
        capture_output=True,
        text=True,
        check=False,
    )


async def test_the_namespace_job_makes_a_namespace_that_can_be_used(client: Client) -> None:
    """Run twice, as every `up` does; the second time another retention is wanted."""
    address, name = client.service_client.config.target_host, f"deployed-{uuid.uuid4().hex[:6]}"

    async def retention() -> int:
        described = await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=name))
        return described.config.workflow_execution_retention_ttl.seconds // 3600

    first = run_namespace_job(address, name)
    assert first.returncode == 0, first.stderr
    assert await retention() == 720
    async for _ in (await Client.connect(address, namespace=name)).list_workflows():
        pytest.fail("a new namespace holds a run")
    second = run_namespace_job(address, name, RETENTION="48h")
    assert second.returncode == 0, second.stderr
    assert await retention() == 48


async def test_the_namespace_job_registers_the_search_attributes_it_is_given(client: Client) -> None:
    address, name = client.service_client.config.target_host, f"deployed-{uuid.uuid4().hex[:6]}"
    for _ in range(2):
        done = run_namespace_job(address, name, SEARCH_ATTRIBUTES="DeployedAgent=Keyword DeployedCount=Int")
        assert done.returncode == 0, done.stderr
    listed = await client.operator_service.list_search_attributes(ListSearchAttributesRequest(namespace=name))
    assert {"DeployedAgent", "DeployedCount"} <= set(listed.custom_attributes)


async def test_the_namespace_job_registers_ours_by_default(client: Client) -> None:
    address, name = client.service_client.config.target_host, f"deployed-{uuid.uuid4().hex[:6]}"
    done = run_namespace_job(address, name)
    assert done.returncode == 0, done.stderr
    assert (await check(await Client.connect(address, namespace=name))).complete


def test_the_namespace_is_ready_without_search_attributes(client: Client) -> None:
    """Where they cannot be registered, workers are let in all the same."""
    address, name = client.service_client.config.target_host, f"deployed-{uuid.uuid4().hex[:6]}"
    done = run_namespace_job(address, name, SEARCH_ATTRIBUTES="Deployed=NoType", ATTEMPTS="3")
    assert done.returncode == 0, done.stderr
    assert "works without its search attributes" in done.stderr
    assert f"Namespace {name} is ready" in done.stdout


def test_the_namespace_job_fails_with_words_where_no_server_is() -> None:
    done = run_namespace_job("127.0.0.1:1", "anything", ATTEMPTS="2")
    assert done.returncode != 0
    assert "Gave up after 2 attempts: temporal operator cluster health" in done.stderr


def run_health_check(image: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "healthcheck.py"],
        cwd=image,
        env={"PATH": os.environ["PATH"], "HOME": "/nowhere"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


async def test_the_health_check_does_not_count_a_poll_of_long_ago(image: Path, start_world: Start) -> None:
    """The server goes on listing a poller for minutes after it has gone."""
    check = image / "healthcheck.py"
    check.write_text(check.read_text().replace("LATELY = 150.0", "LATELY = -3600.0"))
    async with start_world() as world:
        run = await world.start("careless", "go")
        await run.reaches("waiting")
        address = world.client.service_client.config.target_host
        checked = run_health_check(image, TEMPORAL_ADDRESS=address, ABEYANCE_TASK_QUEUE=world.settings.task_queue)
        await run.handle.cancel()
    assert checked.returncode == 1, checked.stderr


async def test_the_health_check_tells_a_worker_from_none(image: Path, start_world: Start) -> None:
    async with start_world() as world:
        run = await world.start("careless", "go")
        await run.reaches("waiting")
        address = world.client.service_client.config.target_host
        queue = world.settings.task_queue
        healthy = run_health_check(image, TEMPORAL_ADDRESS=address, ABEYANCE_TASK_QUEUE=queue)
        assert healthy.returncode == 0, healthy.stderr
        unhealthy = run_health_check(image, TEMPORAL_ADDRESS=address, ABEYANCE_TASK_QUEUE=f"{queue}-not")
        await run.handle.cancel()
    assert unhealthy.returncode == 1
    assert "no worker here has polled" in unhealthy.stderr


def test_the_health_check_is_unhealthy_without_a_server(image: Path) -> None:
    checked = run_health_check(image, TEMPORAL_ADDRESS="127.0.0.1:1")
    assert checked.returncode == 1
    assert "unhealthy: No Temporal server answers at 127.0.0.1:1" in checked.stderr


@pytest.mark.parametrize("script", [".ci/run", "deploy/schema.sh", "deploy/namespace.sh"])
def test_scripts_can_be_run_and_stop_at_the_first_error(script: str) -> None:
    path = ROOT / script
    assert path.stat().st_mode & stat.S_IXUSR
    text = path.read_text()
    shell = "bash" if text.startswith("#!/usr/bin/env bash") else "sh"
    assert re.search(r"^set -eu", text, re.MULTILINE)
    assert subprocess.run([shell, "-n", str(path)], check=False).returncode == 0


def test_ci_runs_the_checks_and_the_tests() -> None:
    lines = (ROOT / ".ci/run").read_text().splitlines()
    assert "set -euo pipefail" in lines
    assert lines[-2:] == ["make check", "make test"]
