import pytest

from jaxnets.errors import InputError


@pytest.fixture
def assert_rejected(tmp_path):
    """assert_rejected(words, call, *arguments): it raises a one-line InputError with all words and writes no file."""

    def check(words, call, *arguments, **options):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(InputError) as caught:
            call(*arguments, **options)
        message = str(caught.value)
        assert [word for word in (*words, "Fix: ") if word not in message] == [], message
        assert "\n" not in message
        assert sorted(tmp_path.rglob("*")) == before

    return check
