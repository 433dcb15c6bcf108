"""The image, built once for all tests that run it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from .containers import Image
from .documents import DEPLOY


@pytest.fixture(scope="session")
def builder() -> ModuleType:
    """`deploy/build_image.py`, with the tools it needs; skips where nobody asked for containers."""
    if os.environ.get("POINTSMAN_TEST_CONTAINER") != "1":
        pytest.skip("builds an image: set POINTSMAN_TEST_CONTAINER=1, or run `make test-container`")
    spec = importlib.util.spec_from_file_location("build_image", DEPLOY / "build_image.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.install_tools()
    return module


@pytest.fixture(scope="session")
def image(builder: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """The Dockerfile, built for real and unpacked; its storage is deleted afterwards (1.5 GB)."""
    storage: Path = tmp_path_factory.mktemp("image")
    try:
        builder.build(storage)
        run = builder.buildah(storage)
        inspected = json.loads(_output([*run, "inspect", "--type=image", builder.IMAGE]))
        root = _output([*run, "mount", _output([*run, "from", "--pull-never", builder.IMAGE])])
        with tarfile.open(builder._base_archive()) as base:
            base_bytes = sum(member.size for member in base)
        yield Image(Path(root), base_bytes, inspected["Docker"]["config"])
    finally:
        shutil.rmtree(storage)


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
