"""The commands as a user types them: real processes, real signals."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.settings_file import parse

pytestmark = pytest.mark.slow  # each starts a process

ROOT = Path(__file__).parents[2]
COMMANDS = (
    *("serve", "check", "route", "sim", "demo", "train", "evaluate", "explain", "data", "domains"),
    *("quality", "replay", "feedback", "records", "keys", "admin-tokens"),
)
POINTSMAN = (sys.executable, "-m", "gateway.cli")


def run(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*POINTSMAN, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [*POINTSMAN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_config(folder: Path, **sections: object) -> Path:
    """A configuration whose generalist and math expert live on free ports."""
    addresses = [f"http://127.0.0.1:{free_port()}" for _ in range(2)]
    config = {
        "generalist": {"model": "g", "upstreams": [addresses[0]]},
        "experts": {"math": {"model": "m", "domains": ["math"], "upstreams": [addresses[1]]}},
        "server": {"port": free_port(), "drain_grace_s": 0},
        **sections,
    }
    path = folder / "experts.yaml"
    path.write_text(json.dumps(config))
    return path


def fetch(url: str, body: object = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as reply:
        return bytes(reply.read())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_every_command_says_what_it_does(command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0
    assert command in run("--help").stdout
    assert len(done.stdout.splitlines()) > 5


def test_check_good_file_prints_what_is_in_effect() -> None:
    done = run("check", "--config", "experts.yaml")
    assert done.returncode == 0, done.stderr
    effective = parse(done.stdout)
    assert effective.timeouts.idle_s == 30
    assert "6 experts" in done.stderr


def test_check_bad_file_names_line_and_key(tmp_path: Path) -> None:
    path = tmp_path / "experts.yaml"
    path.write_text("generalist:\n  model: m\n  upstream: [http://a:1]\n")
    done = run("check", "--config", str(path))
    assert done.returncode == 1
    assert f"{path}:3: generalist.upstream: unknown key; did you mean 'upstreams'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_missing_secret_is_named_and_secrets_are_not_printed(tmp_path: Path) -> None:
    expert = {"model": "m", "upstreams": ["http://127.0.0.1:1"], "api_key_env": "POINTSMAN_TEST_KEY"}
    path = write_config(tmp_path, generalist=expert)
    assert "POINTSMAN_TEST_KEY is not set" in run("check", "-c", str(path)).stderr
    done = run("check", "-c", str(path), POINTSMAN_TEST_KEY="hidden-secret")
    assert done.returncode == 0
    assert "hidden-secret" not in done.stdout + done.stderr


def test_check_schema_is_json_schema() -> None:
    schema = json.loads(run("check", "--schema").stdout)
    assert schema["properties"]["generalist"]


@pytest.mark.slow
def test_route_prints_decision_and_why() -> None:
    explained = json.loads(run("route", "--json", "Solve 3x + 5 = 20 for x.").stdout)
    assert (explained["expert"], explained["reason"], explained["domain"]) == ("math", "confident", "math")
    text = run("route", "-", stdin="Solve 3x + 5 = 20 for x.").stdout
    assert text.startswith("math  (Qwen/Qwen2.5-Math-7B-Instruct)\nreason        confident")


@pytest.mark.slow
def test_route_words_names_what_decided() -> None:
    explained = json.loads(run("route", "--json", "--words", "Solve the equation 3x + 5 = 20 for x.").stdout)
    assert {"solve", "equation"} & {word["word"].casefold() for word in explained["words"]}
    assert "math" in {topic["domain"] for topic in explained["topics"]}
    text = run("route", "--words", "Can my landlord evict me?").stdout
    assert "words for (+) and against (-) law, in log-odds" in text
    assert "nearest training topics, by cosine" in text


@pytest.mark.slow
def test_threshold_for_an_unknown_domain_is_said(tmp_path: Path) -> None:
    path = str(write_config(tmp_path, router={"thresholds": {"maths": 0.7}}))
    for command in (("serve", "-c", path, "--port", "0"), ("route", "-c", path, "hello")):
        done = run(*command)
        assert done.returncode == 1
        assert "router.thresholds.maths: the classifier has no such domain; did you mean 'math'?" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.row("D12")
def test_serve_public_address_without_keys_is_refused() -> None:
    done = run("serve", "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 1
    assert "refusing to listen on 0.0.0.0 without keys" in done.stderr


@pytest.mark.slow
def test_serve_taken_port_is_said(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run("serve", "-c", str(write_config(tmp_path)), "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "Address already in use" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.row("F4")
@pytest.mark.slow
def test_serve_missing_artifact_is_said(tmp_path: Path) -> None:
    done = run("serve", "-c", str(write_config(tmp_path, router={"artifact": str(tmp_path / "none")})))
    assert done.returncode == 1
    assert "none" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_serve_signal_stops_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    with started("serve", "-c", str(write_config(tmp_path)), "--port", "0") as server:
        assert server.stderr is not None
        line = next(line for line in server.stderr if "listening" in line)
        address = json.loads(line)["address"]
        assert b"live" in fetch(address + "/health/live")
        server.send_signal(number)
        _, errors = server.communicate(timeout=20)
    assert server.returncode == 0
    assert "Traceback" not in errors


@pytest.mark.slow
def test_demo_answers_and_stops_on_ctrl_c_with_its_experts(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    with started("demo", "-c", str(path)) as demo:
        assert demo.stdout is not None
        banner = ""
        while "Ctrl-C" not in banner:
            line = demo.stdout.readline()
            assert line, "the demo ended early"
            banner += line
        assert banner.count("curl ") == 3
        assert "SIMULATED" in banner
        address = re.search(r"listens on (\S+)\.", banner)
        assert address is not None
        body = {"model": "auto", "messages": [{"role": "user", "content": "Solve 3x + 5 = 20 for x."}]}
        assert b"No model ran" in fetch(address[1] + "/v1/chat/completions", body)
        assert b"swagger" in fetch(address[1] + "/docs")
        demo.send_signal(signal.SIGINT)
        _, errors = demo.communicate(timeout=20)
    assert (demo.returncode, errors) == (0, "")
    experts = json.loads(path.read_text())["generalist"]["upstreams"][0]
    with pytest.raises(OSError, match="refused"):
        fetch(experts + "/health")


@pytest.mark.slow
def test_sim_upstream_elsewhere_is_refused(tmp_path: Path) -> None:
    path = write_config(tmp_path, generalist={"model": "m", "upstreams": ["http://vllm-general:8000"]})
    done = run("sim", "-c", str(path))
    assert done.returncode == 1
    assert "http://vllm-general:8000 is not a loopback address" in done.stderr


def test_train_without_data_fails_with_a_clear_line(tmp_path: Path) -> None:
    done = run("train", str(tmp_path), "-o", str(tmp_path / "out"))
    assert done.returncode == 1
    assert done.stderr.startswith("pointsman: ")
    assert "Traceback" not in done.stderr
