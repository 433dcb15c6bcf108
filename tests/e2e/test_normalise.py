"""The normaliser must hide ids and times and nothing else: the equality tests are worth what it is worth."""

import pytest

from .normalise import normalise


def test_normalise_other_ids_and_times_equal() -> None:
    first = b'{"id":"chatcmpl-aa","created":17,"x":[{"id":"chatcmpl-tool-9"},{"id":"chatcmpl-aa"}]}'
    second = b'{"id":"chatcmpl-bbb","created":18,"x":[{"id":"chatcmpl-tool-77"},{"id":"chatcmpl-bbb"}]}'
    assert normalise(first) == normalise(second)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(b'{"id":"chatcmpl-aa","created":17,"text":"b"}', id="text"),
        pytest.param(b'{"id":"cmpl-aa","created":17,"text":"a"}', id="kind-of-id"),
        pytest.param(b'{"created":17,"id":"chatcmpl-aa","text":"a"}', id="order"),
        pytest.param(b'{"id": "chatcmpl-aa","created":17,"text":"a"}', id="space"),
        pytest.param(b'{"id":"chatcmpl-aa","created":17,"text":"\\u0061"}', id="escape"),
        pytest.param(b'{"id":"chatcmpl-aa","created":17,"text":"a"}\n', id="newline"),
        pytest.param(b'{"id":"chatcmpl-aa","created":null,"text":"a"}', id="no-time"),
    ],
)
def test_normalise_anything_else_changed_differs(changed: bytes) -> None:
    assert normalise(b'{"id":"chatcmpl-aa","created":17,"text":"a"}') != normalise(changed)


def test_normalise_one_id_became_two_differs() -> None:
    same, other = b'[{"id":"cmpl-1"},{"id":"cmpl-1"}]', b'[{"id":"cmpl-1"},{"id":"cmpl-2"}]'
    assert normalise(same) != normalise(other)


def test_normalise_ids_in_the_models_words_stay() -> None:
    said = rb'{"text":"{\"id\":\"cmpl-1\",\"created\":5}"}'
    assert normalise(said) == said
