"""The compose files say what the security rules ask for and agree with the configurations beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.settings_file import load

from .documents import COMPOSE, DEMO, DEPLOY, ROOT, VARIABLE, Service, config_of, services, with_defaults

FILES = [COMPOSE, DEMO]
EVERY_SERVICE = [
    pytest.param(service, id=f"{file.name}:{name}") for file in FILES for name, service in services(file).items()
]
OURS = [
    pytest.param(s, id=f"{f.name}:{name}") for f in FILES for name, s in services(f).items() if "VLLM" not in s["image"]
]


def vllm_services() -> dict[str, Service]:
    return {name: s for name, s in services(COMPOSE).items() if s.get("entrypoint") == ["vllm", "serve"]}


def option(service: Service, name: str) -> str | None:
    """The value of a vLLM option; empty for one that is only there."""
    found = [argument for argument in service["command"] if argument.partition("=")[0] == f"--{name}"]
    return found[0].partition("=")[2] if found else None


@pytest.mark.parametrize("service", EVERY_SERVICE)
def test_service_any_gets_no_privilege(service: Service) -> None:
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "devices", "pid", "ipc", "userns_mode", "user"} & service.keys()
    assert service.get("network_mode") in (None, "service:gateway")
    assert not any(str(volume).startswith("/") for volume in service.get("volumes", []))


@pytest.mark.parametrize("service", OURS)
def test_service_of_our_image_has_a_read_only_root(service: Service) -> None:
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert all(volume.endswith(":ro") for volume in service["volumes"])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_ports_are_the_gateways_alone_and_on_loopback_unless_chosen(file: Path) -> None:
    published = {name: service["ports"] for name, service in services(file).items() if "ports" in service}
    assert {name: [with_defaults(port) for port in ports] for name, ports in published.items()} == {
        "gateway": ["127.0.0.1:8080:8080"]
    }


def test_vllm_servers_have_no_way_out_and_no_way_in_but_the_gateway() -> None:
    networks = yaml.safe_load(COMPOSE.read_text())["networks"]
    assert networks["experts"] == {"internal": True}
    members = {name for name, service in services(COMPOSE).items() if "experts" in service["networks"]}
    assert members == {"gateway", *vllm_services()}
    assert all(service["networks"] == ["experts"] for service in vllm_services().values())


def test_gateway_waits_for_no_expert() -> None:
    assert "depends_on" not in services(COMPOSE)["gateway"]


def test_vllm_servers_may_load_for_ten_minutes_and_are_then_watched() -> None:
    for service in vllm_services().values():
        assert service["healthcheck"]["start_period"] == "600s"
        assert service["healthcheck"]["test"][0] == "CMD"
        assert "/health" in service["healthcheck"]["test"][-1]
        assert service["environment"]["HF_HUB_OFFLINE"] == "1"
        assert "VLLM_SERVER_DEV_MODE" not in service["environment"]
        assert "shm_size" in service


def test_vllm_servers_get_one_gpu_each() -> None:
    devices = [s["deploy"]["resources"]["reservations"]["devices"] for s in vllm_services().values()]
    chosen = [with_defaults(gpu) for (device,) in devices for gpu in device["device_ids"]]
    assert chosen == ["0", "1", "2", "3"]
    assert all(device["driver"] == "nvidia" and device["capabilities"] == ["gpu"] for (device,) in devices)


def test_images_without_a_digest_are_refused() -> None:
    gateway = services(COMPOSE)["gateway"]
    for reference in [gateway["build"]["args"]["PYTHON_IMAGE"], *(s["image"] for s in vllm_services().values())]:
        match = VARIABLE.fullmatch(reference)
        assert match is not None
        assert match["rule"] == ":?"
        assert "@sha256:<digest>" in match["text"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_variables_all_are_in_the_example_and_explained(file: Path) -> None:
    used = {match["name"] for match in VARIABLE.finditer(file.read_text())}
    assert used
    example = (DEPLOY / ".env.example").read_text()
    offered = {line.lstrip("#").partition("=")[0] for line in example.splitlines() if "=" in line}
    assert used <= offered
    readme = (DEPLOY / "README.md").read_text()
    assert {name for name in used if f"`{name}`" not in readme} == set()


@pytest.mark.parametrize("name", ["PYTHON_IMAGE", "VLLM_IMAGE"])
def test_example_images_name_tag_and_digest(name: str) -> None:
    (line,) = (line for line in (DEPLOY / ".env.example").read_text().splitlines() if line.startswith(f"{name}="))
    tag, _, digest = line.partition("=")[2].partition("@")
    assert ":" in tag
    assert digest.startswith("sha256:")


def test_secrets_are_kept_out_of_git_and_out_of_the_image() -> None:
    assert {".env", "/secrets/"} <= set((DEPLOY / ".gitignore").read_text().split())
    secret = yaml.safe_load(COMPOSE.read_text())["secrets"]["hf_token"]["file"]
    assert with_defaults(secret) == "./secrets/hf_token"
    assert [name for name, service in services(COMPOSE).items() if "secrets" in service] == ["download"]
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"


@pytest.mark.parametrize("service", OURS)
def test_config_mounted_is_valid(service: Service) -> None:
    settings = load(config_of(service))
    assert settings.server.host == "127.0.0.1"  # left alone: the image sets the address
    assert settings.server.open or settings.server.api_keys_env in service["environment"]
    if "stop_grace_period" in service:
        assert int(service["stop_grace_period"].removesuffix("s")) > settings.server.drain_s


def test_config_of_the_demo_is_the_projects_own_but_for_keys_and_probes() -> None:
    own = {"server": {"open": True}, "health": {"interval_s": 1}}

    def experts(path: Path) -> Any:
        return {key: value for key, value in yaml.safe_load(path.read_text()).items() if key not in own}

    demo = DEPLOY / "experts.demo.yaml"
    assert experts(demo) == experts(ROOT / "experts.yaml")
    assert own.items() <= yaml.safe_load(demo.read_text()).items()


def test_config_and_vllm_commands_agree() -> None:
    experts = load(config_of(services(COMPOSE)["gateway"])).named_experts()
    configured = {expert.upstreams: expert for expert in experts.values()}
    assert set(configured) == {(f"http://{name}:8000",) for name in vllm_services()}
    for name, service in vllm_services().items():
        expert = configured[(f"http://{name}:8000",)]
        assert service["command"][0] == option(service, "served-model-name") == expert.model
        can_call_tools = expert.capabilities is None or "tools" in expert.capabilities
        assert can_call_tools == (option(service, "tool-call-parser") is not None)
        assert can_call_tools == (option(service, "enable-auto-tool-choice") is not None)


def test_download_fetches_what_the_servers_load() -> None:
    download = services(COMPOSE)["download"]
    assert download["profiles"] == ["download"]
    assert download["command"] == [service["command"][0] for service in vllm_services().values()]
    assert download["volumes"] == next(iter(vllm_services().values()))["volumes"]
    assert download["environment"]["HF_TOKEN_PATH"] == f"/run/secrets/{download['secrets'][0]}"
    assert download["environment"]["HF_HUB_OFFLINE"] == "0"
