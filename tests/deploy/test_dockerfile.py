"""The Dockerfile keeps its promises as far as reading it can tell; test_image.py builds and runs it."""

from __future__ import annotations

import json
import shlex

from .documents import CONFIG_IN_IMAGE, ROOT, instructions

COPIED = [rest.split()[:-1] for word, rest in instructions() if word == "COPY" and not rest.startswith("--from")]


def final_stage() -> list[tuple[str, str]]:
    last = max(index for index, (word, _) in enumerate(instructions()) if word == "FROM")
    return instructions()[last:]


def test_stages_share_one_base_that_the_builder_of_the_image_names() -> None:
    bases = [rest.split()[0] for word, rest in instructions() if word == "FROM"]
    assert bases == ["${PYTHON_IMAGE}", "${PYTHON_IMAGE}"]
    assert instructions()[0] == ("ARG", "PYTHON_IMAGE=python:3.11-slim-bookworm")


def test_copied_files_exist_and_are_sent_to_the_builder() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    sources = [source for line in COPIED for source in line]
    assert sources
    for source in sources:
        assert (ROOT / source).exists()
        assert source in allowed


def test_packages_come_from_the_locks_with_their_hashes() -> None:
    installs = [rest for word, rest in instructions() if word == "RUN" and "pip" in rest and " install " in rest]
    assert len(installs) == 3
    for line in installs:
        step = line.split("&&")[-1]
        assert "--no-deps" in step
        assert "--require-hashes" in step or "--no-index" in step
    locks = {word for line in installs for word in shlex.split(line) if word.endswith(".txt")}
    assert locks == {"deploy/requirements/build.txt", "deploy/requirements/serve.txt"}


def test_instructions_fetch_nothing_else() -> None:
    assert not [word for word, _ in instructions() if word == "ADD"]
    commands = " ".join(rest for word, rest in instructions() if word == "RUN")
    assert not {"apt-get", "curl", "wget", "git"} & set(shlex.split(commands))
    assert "://" not in (ROOT / "Dockerfile").read_text()


def test_final_stage_runs_nothing_and_takes_only_the_environment() -> None:
    words = [word for word, _ in final_stage()]
    assert "RUN" not in words
    assert [rest for word, rest in final_stage() if word == "COPY"] == ["--from=builder /opt/pointsman /opt/pointsman"]


def test_user_is_a_number_other_than_root() -> None:
    (user,) = (rest for word, rest in final_stage() if word == "USER")
    assert all(int(part) > 0 for part in user.split(":"))


def test_commands_need_no_shell() -> None:
    found = {word: rest for word, rest in final_stage() if word in ("ENTRYPOINT", "CMD", "HEALTHCHECK")}
    assert json.loads(found["ENTRYPOINT"]) == ["pointsman"]
    assert json.loads(found["CMD"]) == ["serve"]
    check = json.loads(found["HEALTHCHECK"].partition("CMD ")[2])
    assert check[:2] == ["python3", "-c"]
    assert "/health/live" in check[2]


def test_config_is_where_the_compose_files_mount_it() -> None:
    (environment,) = (rest for word, rest in final_stage() if word == "ENV")
    assert f"POINTSMAN_CONFIG={CONFIG_IN_IMAGE}" in environment.split()
