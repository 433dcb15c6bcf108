"""Importing the library must stay cheap: the gateway imports it before it knows whether it needs a model."""

from __future__ import annotations

import json
import subprocess
import sys

import router

_PROBE = """
import json, sys
import router
heavy = {
    "torch", "transformers", "sklearn", "onnx", "onnxruntime", "tokenizers", "sentencepiece",
    "scipy", "asyncio", "aiohttp", "gateway",
}
print(json.dumps(sorted(heavy & set(sys.modules))))
"""


def test_import_router_loads_nothing_heavy() -> None:
    probe = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, check=True, timeout=30)
    assert json.loads(probe.stdout) == []


def test_import_router_every_public_name_exists() -> None:
    assert all(hasattr(router, name) for name in router.__all__)
