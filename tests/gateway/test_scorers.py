"""A classifier is loaded once for all who use it, and again only when its files have changed."""

import shutil
from pathlib import Path

import pytest

import router
from gateway.scorers import Scorers
from gateway.settings import RouterSettings
from router import ArtifactError
from tests.harness import KeywordScorer

SHIPPED = Path(router.__file__).parent / "artifacts" / "default"
SETTINGS = RouterSettings(deadline_s=5)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED, tmp_path / "artifact"))


async def test_load_while_in_use_returns_the_same(artifact: Path) -> None:
    scorers = Scorers()
    first = scorers.load(str(artifact), 1)
    async with scorers.use(first, SETTINGS) as one:
        again = scorers.load(str(artifact), 1)
        assert again.scorer is first.scorer
        async with scorers.use(again, SETTINGS) as other:
            assert other is one
        assert not isinstance(await one.score("What is 2 + 2?"), str)
        assert scorers.load(str(artifact), 2).scorer is not first.scorer
    assert scorers.load(str(artifact), 1).scorer is not first.scorer


async def test_load_after_its_files_changed_returns_another(artifact: Path) -> None:
    scorers = Scorers()
    first = scorers.load(str(artifact), 1)
    async with scorers.use(first, SETTINGS) as old:
        card = artifact / "card.json"
        card.write_text(card.read_text() + "\n")
        second = scorers.load(str(artifact), 1)
        assert second.scorer is not first.scorer
        async with scorers.use(second, SETTINGS) as new:
            assert new is not old
            assert not isinstance(await old.score("What is 2 + 2?"), str)
        (artifact / "card.json").unlink()
        with pytest.raises(ArtifactError):
            scorers.load(str(artifact), 1)


async def test_given_scorer_is_used_whatever_the_settings_name() -> None:
    given = KeywordScorer()
    scorers = Scorers(given)
    live = scorers.live(RouterSettings(artifact="/none"))
    assert live.scorer is given
    async with scorers.use(live, SETTINGS) as one, scorers.use(scorers.live(SETTINGS), SETTINGS) as other:
        assert one is other
