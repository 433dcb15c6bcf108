"""Domains added to a real artifact: they catch their prompts, take almost nothing, and leave without a trace."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from router import ArtifactError, DataError, RouterError, Scorer, load_scorer
from router.artifact import artifact_folder, sha256_of
from router.artifact_files import new_copy, remove_gate, write_gate
from router.domain_info import DomainError, Kind
from router.domains import CONFIDENCE, add_domain, list_domains, remove_domain
from router.embedding import is_shipped
from router.gates import load_gate
from router.statistics import Statistics
from tests.router.domain_prompts import (
    ARTIFACT,
    BASE,
    DESCRIPTIONS,
    GARDENING,
    GARDENING_HELD_OUT,
    MOTORING,
    MOTORING_HELD_OUT,
)

pytestmark = pytest.mark.slow

FOLDER = artifact_folder(ARTIFACT)
BASE_PROMPTS = [prompt for prompts in BASE.values() for prompt in prompts]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the artifact that tests only read."""
    return Path(shutil.copytree(FOLDER, tmp_path_factory.mktemp("plain") / "artifact"))


@pytest.fixture
def artifact(plain: Path, tmp_path: Path) -> Path:
    """A copy of the artifact that a test may change."""
    with new_copy(plain, tmp_path / "artifact") as copy:
        assert copy.is_dir()
    return tmp_path / "artifact"


@pytest.fixture(scope="module")
def garden(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact with gardening, from 30 examples."""
    folder = tmp_path_factory.mktemp("garden") / "artifact"
    add_domain(plain, "gardening", texts=GARDENING, output=folder)
    return folder


@pytest.fixture(scope="module")
def both(garden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact with gardening and motoring, 30 examples each."""
    folder = tmp_path_factory.mktemp("both") / "artifact"
    add_domain(garden, "motoring", texts=MOTORING, output=folder)
    return folder


def tops(scorer: Scorer, texts: Sequence[str]) -> list[str]:
    return [scores.top()[0] for scores in scorer.score(texts)]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "table.npy"}


def same_scores(first: Path, second: Path) -> bool:
    texts = [*BASE_PROMPTS[::3], *GARDENING_HELD_OUT, *MOTORING_HELD_OUT]
    one, other = (load_scorer(folder).score(texts) for folder in (first, second))
    columns = [(batch.probabilities.tobytes(), batch.out_of_domain.tobytes()) for batch in (one, other)]
    return columns[0] == columns[1] and one.labels == other.labels


def test_added_domains_catch_prompts_they_have_not_seen(both: Path) -> None:
    scorer = load_scorer(both)
    assert scorer.labels[-2:] == ("gardening", "motoring")
    assert tops(scorer, GARDENING_HELD_OUT).count("gardening") >= 9
    assert tops(scorer, MOTORING_HELD_OUT).count("motoring") >= 9
    scores = scorer.score(GARDENING_HELD_OUT)
    gardening = scores.probabilities[:, scorer.labels.index("gardening")]
    assert scorer.thresholds.of("gardening") == CONFIDENCE
    assert (gardening >= CONFIDENCE).sum() >= 9
    assert (scores.out_of_domain[gardening > CONFIDENCE] == 0).all()


def test_added_domains_take_almost_nothing_and_change_no_other_answer(plain: Path, both: Path) -> None:
    before, after = load_scorer(plain), load_scorer(both)
    new = tops(after, BASE_PROMPTS)
    taken = [top for top in new if top in ("gardening", "motoring")]
    assert len(taken) <= 2
    base = after.score(BASE_PROMPTS).probabilities[:, : len(before.labels)]
    assert [before.labels[column] for column in base.argmax(axis=1)] == tops(before, BASE_PROMPTS)


def test_add_domain_with_output_leaves_the_artifact_as_it_was(plain: Path, garden: Path) -> None:
    assert load_scorer(plain).version == load_scorer(FOLDER).version
    assert load_scorer(plain).version != load_scorer(garden).version
    assert set(files_of(garden)) == {*files_of(plain), "domain.gardening.npz"}
    assert json.loads((plain / "card.json").read_bytes())["added"] == []


def test_new_copy_shares_big_files_and_copies_those_people_edit(plain: Path, tmp_path: Path) -> None:
    with new_copy(plain, tmp_path / "copy") as copy:
        assert not (tmp_path / "copy").exists()
        assert not os.path.samefile(copy / "card.json", plain / "card.json")
    assert os.path.samefile(tmp_path / "copy" / "statistics.npz", plain / "statistics.npz")


def test_new_copy_after_an_error_leaves_nothing(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), new_copy(plain, tmp_path / "copy"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_write_gate_after_somebody_else_changed_the_artifact_changes_nothing(artifact: Path) -> None:
    version = load_scorer(artifact).version
    add_domain(artifact, "gardening", texts=GARDENING[:10])
    before = files_of(artifact)
    gate = load_gate(artifact / "domain.gardening.npz")
    with pytest.raises(ArtifactError, match="changed meanwhile"):
        write_gate(artifact, gate, confidence=0.9, version=version)
    with pytest.raises(ArtifactError, match="changed meanwhile"):
        remove_gate(artifact, "gardening", version=version)
    assert files_of(artifact) == before


def test_add_domain_statistics_of_another_model_are_refused(artifact: Path) -> None:
    other = Statistics.of(sorted(BASE), np.eye(9, 16), range(9))
    file = artifact / "statistics.npz"
    file.unlink()  # other copies share it
    np.savez(file, **other.as_arrays())  # type: ignore[arg-type]  # arrays by name
    card = json.loads((artifact / "card.json").read_bytes())
    card["files"]["statistics.npz"] = sha256_of(file)
    (artifact / "card.json").write_text(json.dumps(card))
    with pytest.raises(ArtifactError, match=r"statistics\.npz does not fit"):
        add_domain(artifact, "gardening", texts=GARDENING)


def test_add_domain_says_what_it_did(artifact: Path) -> None:
    added = add_domain(artifact, "gardening", texts=GARDENING)
    assert (added.domain.kind, added.domain.examples, added.used) == (Kind.EXAMPLES, 30, 30)
    assert added.domain.recall is not None
    assert added.domain.recall > 0.8
    assert added.warnings == ()
    assert (added.artifact, added.version) == (artifact, load_scorer(artifact).version)
    assert {"general", "science"} & {neighbour.domain for neighbour in added.neighbours[:3]}
    assert added.neighbours[0].similarity > added.neighbours[1].similarity
    assert len(added.topics) == 3
    assert 0 < added.seconds < 30
    json.dumps(added.as_dict())


def test_remove_domain_restores_card_and_scores_to_the_bit(plain: Path, artifact: Path) -> None:
    add_domain(artifact, "gardening", texts=GARDENING)
    assert not same_scores(plain, artifact)
    assert remove_domain(artifact, "gardening") == load_scorer(plain).version
    assert files_of(artifact) == files_of(plain)
    assert same_scores(plain, artifact)


def test_remove_domain_leaves_others_as_if_it_had_never_been_there(garden: Path, both: Path, tmp_path: Path) -> None:
    with new_copy(both, tmp_path / "copy"):
        pass
    remove_domain(tmp_path / "copy", "motoring")
    assert files_of(tmp_path / "copy") == files_of(garden)
    assert same_scores(garden, tmp_path / "copy")


def test_add_domain_in_parts_equals_adding_all_at_once(artifact: Path, garden: Path) -> None:
    first = add_domain(artifact, "gardening", texts=GARDENING[:7])
    second = add_domain(artifact, "gardening", texts=GARDENING[7:])
    assert (first.domain.examples, second.used, second.domain.examples) == (7, 23, 30)
    assert files_of(artifact) == files_of(garden)


def test_add_domain_keeps_a_threshold_and_the_order_of_domains(both: Path, tmp_path: Path) -> None:
    with new_copy(both, tmp_path / "copy") as copy:
        card = json.loads((copy / "card.json").read_bytes())
        card["thresholds"]["confidence"]["gardening"] = 0.7
        (copy / "card.json").write_text(json.dumps(card))
    added = add_domain(tmp_path / "copy", "gardening", texts=GARDENING_HELD_OUT)
    assert added.domain.threshold == 0.7
    assert [domain.name for domain in list_domains(tmp_path / "copy")][-2:] == ["gardening", "motoring"]


def test_add_domain_reads_files_by_label(artifact: Path, garden: Path, tmp_path: Path) -> None:
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8") as stream:
        rows = [(text, "gardening") for text in GARDENING[:20]] + [(text, "motoring") for text in MOTORING]
        csv.writer(stream).writerows([("text", "label"), *rows])
    lines = [json.dumps({"text": text}) for text in GARDENING[20:]]
    (tmp_path / "b.jsonl").write_text("\n".join(lines), encoding="utf-8")
    added = add_domain(artifact, "gardening", examples=[tmp_path / "a.csv", tmp_path / "b.jsonl"])
    assert added.used == 30
    assert files_of(artifact) == files_of(garden)


def test_add_domain_from_a_description_alone_is_careful(plain: Path, artifact: Path) -> None:
    before = load_scorer(plain).score(GARDENING_HELD_OUT).out_of_domain
    added = add_domain(artifact, "gardening", description=DESCRIPTIONS)
    assert (added.domain.kind, added.domain.examples, added.domain.recall) == (Kind.DESCRIPTION, 3, None)
    assert added.warnings == ()
    scorer = load_scorer(artifact)
    assert tops(scorer, BASE_PROMPTS).count("gardening") <= 2
    own = scorer.score([*GARDENING, *GARDENING_HELD_OUT]).probabilities[:, -1]
    others = scorer.score(BASE_PROMPTS).probabilities[:, -1]
    assert np.quantile(own, 0.25) > np.quantile(others, 0.9)
    assert (scorer.score(GARDENING_HELD_OUT).out_of_domain <= before).all()


def test_add_domain_description_in_one_string_is_cut_into_sentences(artifact: Path) -> None:
    added = add_domain(artifact, "gardening", description=" ".join(DESCRIPTIONS))
    assert added.used == 3


def test_add_domain_examples_after_a_description_make_it_an_ordinary_domain(artifact: Path) -> None:
    add_domain(artifact, "gardening", description=DESCRIPTIONS)
    added = add_domain(artifact, "gardening", texts=GARDENING)
    assert (added.domain.kind, added.domain.examples) == (Kind.EXAMPLES, 33)
    assert tops(load_scorer(artifact), GARDENING_HELD_OUT).count("gardening") >= 9


def test_add_domain_doubtful_examples_are_said(garden: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    texts = [*GARDENING_HELD_OUT[:3], GARDENING_HELD_OUT[0].upper(), " "]
    warnings = add_domain(garden, "allotments", texts=texts, output=output).warnings
    assert [text for text in warnings if "1 examples hold no text" in text]
    assert [text for text in warnings if "1 of 4 examples nearly repeat others" in text]
    assert [text for text in warnings if "only 4 examples" in text]
    assert [text for text in warnings if "claimed by the added domain 'gardening'" in text]
    assert not [text for text in warnings if GARDENING_HELD_OUT[0] in text]


def test_list_domains_tells_trained_from_added(both: Path) -> None:
    domains = list_domains(both)
    trained = [domain for domain in domains if domain.kind is Kind.TRAINED]
    assert [domain.name for domain in trained] == sorted(BASE)
    assert all(domain.examples and domain.recall is None for domain in trained)
    motoring = domains[-1]
    assert (motoring.name, motoring.kind, motoring.examples) == ("motoring", Kind.EXAMPLES, 30)
    assert motoring.as_dict()["kind"] == "examples"
    assert [domain.threshold for domain in domains[-2:]] == [CONFIDENCE, CONFIDENCE]


def test_load_scorer_changed_domain_file_is_refused(artifact: Path) -> None:
    add_domain(artifact, "gardening", texts=GARDENING[:5])
    with (artifact / "domain.gardening.npz").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(ArtifactError, match=r"hash mismatch of domain\.gardening\.npz"):
        load_scorer(artifact)


def test_shipped_artifact_is_never_changed_under_any_name(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(artifact_folder("default"))
    assert is_shipped(link)
    for name in ("default", link):
        with pytest.raises(DomainError, match="--output"):
            add_domain(name, "gardening", texts=GARDENING)


@pytest.mark.parametrize("name", ["", "Gardening", "9lives", "a b", "../x", "a" * 33, "jardín", "x\n"])
def test_add_domain_bad_name_is_refused(artifact: Path, name: str) -> None:
    with pytest.raises(DomainError, match="no name for a domain"):
        add_domain(artifact, name, texts=GARDENING)


def test_add_domain_base_label_names_training(artifact: Path) -> None:
    with pytest.raises(DomainError, match="training again"):
        add_domain(artifact, "law", texts=GARDENING)
    with pytest.raises(DomainError, match="only training again"):
        remove_domain(artifact, "law")


def test_add_domain_impossible_requests_change_nothing(garden: Path, tmp_path: Path) -> None:
    before = files_of(garden)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    (tmp_path / "law.csv").write_text("text,label\ntort,law\n")
    requests: list[tuple[type[RouterError], str, dict[str, object]]] = [
        (DataError, "no examples of 'pottery'", {}),
        (DataError, "no examples of 'pottery'", {"examples": [tmp_path / "law.csv"], "description": DESCRIPTIONS}),
        (DataError, "No such file", {"examples": [tmp_path / "none.csv"]}),
        (DomainError, "up to 20 sentences, not 21", {"description": ["Pots."] * 21}),
        (ArtifactError, "is there already", {"texts": GARDENING, "output": tmp_path / "full"}),
        (ArtifactError, "is to be a copy", {"texts": GARDENING, "output": garden / "inside"}),
    ]
    for kind, problem, arguments in requests:
        with pytest.raises(kind, match=problem):
            add_domain(garden, "pottery", **arguments)  # type: ignore[arg-type]  # one of each kind
    with pytest.raises(DomainError, match="is there already; give examples"):
        add_domain(garden, "gardening", description=DESCRIPTIONS)
    with pytest.raises(DomainError, match="no added domain 'pottery'; it has gardening"):
        remove_domain(garden, "pottery")
    assert files_of(garden) == before


def test_add_domain_artifact_without_statistics_is_refused(artifact: Path) -> None:
    card = json.loads((artifact / "card.json").read_bytes())
    del card["files"]["statistics.npz"]
    (artifact / "card.json").write_text(json.dumps(card))
    with pytest.raises(ArtifactError, match=r"no statistics\.npz"):
        add_domain(artifact, "gardening", texts=GARDENING)
    assert [domain.examples for domain in list_domains(artifact)] == [None] * len(BASE)
