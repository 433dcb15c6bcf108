"""Who may import whom (DESIGN section 2): an `ast` walk that also sees imports inside functions."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(path for package in ("router", "gateway") for path in (ROOT / package).rglob("*.py"))
HTTP = {"aiohttp", "httpx", "httpx2", "fastapi", "starlette", "uvicorn", "requests", "http", "urllib3"}

# Each layer may import those before it; modules of one line may import each other.
LAYERS = [
    {"addresses", "errors", "callers", "types", "media", "language", "answers", "sse"},
    {"rewriting", "costs"},
    {"policies", "strategies", "settings"},
    {"limits"},
    {"causes", "fair_queue", "retry_after", "load", "model_list", "window"},
    {"breaker", "limiter", "admission", "spread"},
    {"retry_budget"},
    {
        "field_checks",
        "settings_file",
        "catalog",
        "openai",
        "parts",
        "request_size",
        "context",
        "grants",
        "controls",
        "thresholds",
        "wanted",
        "conversation",
        "messages",
        "readings",
        "sessions",
        "stay",
        "fallbacks",
        "filestamps",
    },
    {"logs", "budgets", "pace", "lately", "finishing"},
    {"upstream"},
    {"leases"},
    {"second_look"},
    {"reliability_metrics"},
    {
        "metrics",
        "connections",
        "presence",
        "cutoff",
        "streaming",
        "opening",
        "scoring",
        "estimates",
        "rate",
        "recent",
        "stores",
        "cache",
    },
    {"limiting", "metrics_sum", "record_writer", "record_export", "keyring"},
    {"shared_metrics", "shared_switches"},
    {"adapters", "server_reading"},
    {"record_metrics", "limit_metrics", "key_metrics", "prompt_keeping"},
    {"health", "recorder", "record_keeping", "variants", "feedback", "scorers", "lag"},
    {"eligibility", "replay"},
    {"refusals"},
    {"dispatch", "pipeline", "explain"},
    {"calling", "resuming"},
    {"answering"},
    {"generation", "dry_run"},
    {"state"},
    {"reload"},
    {"guard"},
    {"protocol", "error_answers"},
    {"endpoints", "openapi"},
    {"app"},
    {"admin"},
    {"dashboard"},
    {"draining"},
    {"workers"},
    {"server"},
    {"demo_history"},
    {"demo_site"},
    {"demo"},
    {
        "cli_data",
        "cli_domains",
        "cli_evaluate",
        "cli_feedback",
        "cli_keys",
        "cli_admin_tokens",
        "cli_quality",
        "cli_records",
        "cli_replay",
        "cli_training",
        "cli",
    },
]
HEAVY = ("torch", "onnxruntime", "tokenizers", "sentencepiece", "sklearn", "scipy", "transformers")
OWNERS = {
    "aiohttp": {"gateway/upstream.py"},
    "prometheus_client": {
        f"gateway/{name}.py"
        for name in ("metrics", "metrics_sum", "reliability_metrics", "record_metrics", "limit_metrics", "key_metrics")
    },
    "jinja2": {"gateway/dashboard/rendering.py"},
    "yaml": {"gateway/settings_file.py"},
    "concurrent": {
        "gateway/stores/feedback.py",
        "gateway/stores/spending.py",
        "gateway/admin/threads.py",
    },
    "threading": {"gateway/record_writer.py", "gateway/scoring.py", "gateway/prompt_keeping.py"},
    "psycopg": {
        *(f"gateway/stores/records/{name}.py" for name in ("postgres", "postgres_connection", "partitions")),
        "gateway/stores/keys/postgres.py",
        "gateway/stores/prompts/postgres.py",
    },
    "sqlite3": {
        *(
            f"gateway/stores/{name}.py"
            for name in ("sqlite", "feedback", "feedback_table", "config_history", "spending")
        ),
        *(f"gateway/stores/records/{name}.py" for name in ("sqlite", "sqlite_reader", "retention")),
        "gateway/stores/keys/sqlite.py",
        "gateway/stores/prompts/sqlite.py",
    },
    "uvicorn": {f"gateway/{name}.py" for name in ("server", "draining", "protocol", "admin/server")},
}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_modules_are_found() -> None:
    assert len(MODULES) > 40


@pytest.mark.parametrize("path", [p for p in MODULES if "router" in p.parts], ids=name_of)
def test_router_knows_neither_http_nor_asyncio_nor_gateway(path: Path) -> None:
    forbidden = HTTP | {"asyncio", "anyio", "gateway", "socket"}
    assert not {name.split(".")[0] for name in imports_of(path)} & forbidden


@pytest.mark.parametrize("path", [p for p in MODULES if "gateway" in p.parts], ids=name_of)
def test_gateway_uses_only_routers_public_names(path: Path) -> None:
    import router

    names = [name for name in imports_of(path) if name.split(".")[0] == "router"]
    assert {name.removeprefix("router").lstrip(".") for name in names} <= {"", *router.__all__}


@pytest.mark.parametrize("path", [p for p in MODULES if p.parent == ROOT / "gateway"], ids=name_of)
def test_gateway_imports_only_earlier_layers(path: Path) -> None:
    if path.stem == "__init__":
        assert not [name for name in imports_of(path) if name.startswith("gateway")]
        return
    layer = next(i for i, names in enumerate(LAYERS) if path.stem in names)
    allowed = set().union(*LAYERS[: layer + 1]) | {"sim", "__version__", ""}
    for name in imports_of(path):
        package, _, rest = name.partition(".")
        if package == "gateway" and rest:
            assert rest.split(".")[0] in allowed, f"{path.stem} imports {name}"


@pytest.mark.parametrize("path", [p for p in MODULES if p.parent.name == "policies"], ids=name_of)
def test_policies_import_types_only(path: Path) -> None:
    ours = {name for name in imports_of(path) if name.startswith(("gateway", "router"))}
    assert all(name.startswith(("gateway.types", "gateway.policies")) for name in ours)


@pytest.mark.parametrize("path", [p for p in MODULES if p.parent.name == "strategies"], ids=name_of)
def test_strategies_know_bodies_and_no_servers(path: Path) -> None:
    known = ("types", "errors", "answers", "sse", "rewriting", "strategies")
    ours = {name for name in imports_of(path) if name.startswith(("gateway", "router"))}
    assert all(name.startswith(tuple(f"gateway.{module}" for module in known)) for name in ours)


@pytest.mark.parametrize("path", [p for p in MODULES if "sim" in p.parts], ids=name_of)
def test_simulated_experts_are_an_independent_party(path: Path) -> None:
    ours = {name for name in imports_of(path) if name.startswith(("gateway", "router"))}
    assert all(name.startswith("gateway.sim") for name in ours)


@pytest.mark.parametrize("path", [p for p in MODULES if "sim" not in p.parts and "gateway" in p.parts], ids=name_of)
def test_libraries_have_a_single_owner(path: Path) -> None:
    for library, owners in OWNERS.items():
        if library in {name.split(".")[0] for name in imports_of(path)}:
            assert name_of(path) in owners, f"{library} belongs to {owners}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_environment_is_read_in_settings_only(path: Path) -> None:
    read = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Attribute)]
    uses = [node for node in read if node.attr in ("environ", "getenv")]
    assert not uses or name_of(path) == "gateway/settings/secrets.py"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_global_state(path: Path) -> None:
    tree = tree_of(path)
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Global)]
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.List | ast.Set | ast.Dict):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            assert isinstance(target, ast.Name)
            # Constants by name; nothing may change them.
            assert target.id.lstrip("_").isupper() or target.id == "__all__", f"{target.id} is mutable module state"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 320


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("router", [*HEAVY, "asyncio"]),
        ("gateway.app", [*HEAVY, "gateway.sim"]),
    ],
)
def test_import_loads_no_heavy_library(module: str, unwanted: list[str]) -> None:
    code = f"import sys, {module}; print([name for name in {unwanted} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
