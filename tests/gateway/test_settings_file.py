import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from gateway.settings import Settings
from gateway.settings_file import ConfigError, dump, json_schema, load, parse

ROOT = Path(__file__).parents[2]
GENERALIST = "generalist: {model: m, upstreams: [http://a:1]}\n"


def problems_of(text: str | bytes) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f.yaml")
    return caught.value.lines()


def test_parse_shipped_file_gives_five_specialists() -> None:
    settings = load(ROOT / "experts.yaml")
    assert list(settings.experts) == ["math", "coding", "health", "law", "embed"]
    assert settings.generalist.domains == ("general", "other")


def test_parse_shipped_file_fits_in_about_forty_lines() -> None:
    lines = [line for line in (ROOT / "experts.yaml").read_text().splitlines() if line and not line.startswith("#")]
    assert len(lines) <= 40


def test_parse_every_wrong_key_is_named_with_its_line() -> None:
    text = """\
generalist:
  model: m
  upstreams: [http://a:1/v1]
  pricee: {input: 1}
experts:
  math:
    model: x
    upstreams: []
    domans: [math]
router:
  minimum_confidence: 1.5
server:
  prot: 5
"""
    assert problems_of(text) == [
        "f.yaml:3: generalist.upstreams.0: must be the server's root, without /v1",
        "f.yaml:4: generalist.pricee: unknown key; did you mean 'price'?",
        "f.yaml:8: experts.math.upstreams: must not be empty",
        "f.yaml:9: experts.math.domans: unknown key; did you mean 'domains'?",
        "f.yaml:11: router.minimum_confidence: Input should be less than or equal to 1",
        "f.yaml:13: server.prot: unknown key; did you mean 'port'?",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "f.yaml: generalist: is required"),
        ("- 1", "f.yaml:1: Input should be a valid dictionary or instance of Settings"),
        ("[1", "f.yaml:1: expected ',' or ']', but got '<stream end>'"),
        ("a: &x 1\nb: *x", "f.yaml:1: anchors and aliases are not supported"),
        (GENERALIST + GENERALIST, "f.yaml:2: generalist: is given twice"),
        (b"\xff\xfe\x00", "f.yaml: is not UTF-8 text"),
        ("x: !!python/object/apply:os.system [ls]", "f.yaml:1: could not determine a constructor"),
        (
            GENERALIST + "policy: {name: nope}",
            "f.yaml:2: policy.name: unknown policy 'nope'; there are: balanced, economy, fixed, modem",
        ),
        (GENERALIST + "policy: {name: modem, foo: 1}", "f.yaml:2: policy.foo: unknown key"),
        (
            GENERALIST + "experts: {auto: {model: m, upstreams: [http://b:1]}}",
            "f.yaml:2: experts: 'auto' is a reserved",
        ),
        (
            GENERALIST + "experts:\n  a b: {model: m, upstreams: [http://b:1]}",
            "f.yaml:3: experts.a b: String should match",
        ),
        (
            GENERALIST + "experts:\n  a: {model: m, upstreams: [http://b:1], domains: [x]}\n"
            "  b: {model: m, upstreams: [http://b:1], domains: [x]}",
            "f.yaml:2: experts: domain 'x' belongs to both 'a' and 'b'",
        ),
        (GENERALIST.replace("http://a:1", "ftp://a"), "f.yaml:1: generalist.upstreams.0: must be an http://"),
        (GENERALIST.replace("http://a:1", "http://u:p@a"), "f.yaml:1: generalist.upstreams.0: must not carry cred"),
        (GENERALIST.replace("http://a:1", "http://a:1, http://a:1"), "f.yaml:1: generalist.upstreams: 'http://a:1' is"),
        (GENERALIST + "timeouts: {idle_s: .inf}", "f.yaml:2: timeouts.idle_s: Input should be"),
        (
            GENERALIST + "router:\n  thresholds: {math: 1.5}",
            "f.yaml:3: router.thresholds.math: Input should be less than or equal to 1",
        ),
        (GENERALIST + "router:\n  thresholds: {a b: 0.5}", "f.yaml:3: router.thresholds.a b: String should match"),
        (GENERALIST + "router: {maximum_disagreement: -1}", "f.yaml:2: router.maximum_disagreement: Input should be"),
        (GENERALIST + "timeouts: {idle_s: .nan}", "f.yaml:2: timeouts.idle_s: Input should be"),
        ("a: " * 5000, "f.yaml:1: mapping values are not allowed here"),
        ("[" * 5000, "f.yaml"),
        ("x" * 1_000_001, "f.yaml: larger than 1000000 bytes"),
    ],
)
def test_parse_bad_text_is_refused_with_a_reason(text: str | bytes, expected: str) -> None:
    assert problems_of(text)[0].startswith(expected)


def test_load_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "nothing.yaml")


def test_dump_effective_settings_reads_back_equal() -> None:
    settings = load(ROOT / "experts.yaml")
    assert parse(dump(settings)) == settings


def test_json_schema_shipped_file_is_current() -> None:
    shipped = (ROOT / "gateway" / "experts.schema.json").read_text()
    assert shipped.strip() == json_schema().strip(), "run `make schema`"


def test_settings_every_field_has_a_description() -> None:
    pending: list[type[BaseModel]] = [Settings]
    seen: set[type[BaseModel]] = set()
    while pending:
        model = pending.pop()
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
            kinds: list[type] = [
                k for k in (field.annotation, *getattr(field.annotation, "__args__", ())) if isinstance(k, type)
            ]
            pending += [k for k in kinds if issubclass(k, BaseModel) and k not in seen]
        seen.add(model)
    assert len(seen) > 8


@pytest.mark.parametrize("name", ["experts.yaml", "deploy/experts.demo.yaml", "deploy/experts.compose.yaml"])
def test_json_schema_accepts_what_the_gateway_accepts(name: str) -> None:
    jsonschema.validate(yaml.safe_load((ROOT / name).read_text()), json.loads(json_schema()))


def test_json_schema_refuses_an_unknown_key() -> None:
    with pytest.raises(jsonschema.ValidationError, match="upstream"):
        jsonschema.validate({"generalist": {"model": "m", "upstream": ["http://a:1"]}}, json.loads(json_schema()))
