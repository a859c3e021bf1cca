import itertools

from hypothesis import given
from hypothesis import strategies as st

from rspp.contracts.media import WordMark
from rspp.session.spoken import SAMPLES_PER_CHARACTER, SpokenTurn


def marked() -> SpokenTurn:
    spoken = SpokenTurn()
    spoken.begin_segment("We open at nine.")
    spoken.add(1000, (WordMark("We", 0), WordMark("open", 300)))
    spoken.add(1000, (WordMark("at", 1100), WordMark("nine.", 1300)))
    spoken.end_segment()
    spoken.begin_segment("Bye.")
    spoken.add(500, (WordMark("Bye.", 0),))
    spoken.end_segment()
    return spoken


def test_a_word_is_heard_once_it_has_ended() -> None:
    spoken = marked()
    assert spoken.heard(0) == ""
    assert spoken.heard(299) == ""
    assert spoken.heard(300) == "We"
    assert spoken.heard(1299) == "We open"
    assert spoken.heard(1300) == "We open at"
    assert spoken.heard(2000) == "We open at nine."
    assert spoken.heard(2499) == "We open at nine."
    assert spoken.heard(2500) == "We open at nine. Bye."


def test_the_last_word_of_an_unfinished_segment_does_not_count() -> None:
    spoken = SpokenTurn()
    spoken.begin_segment("One two three")
    spoken.add(600, (WordMark("One", 0), WordMark("two", 300)))
    assert spoken.heard(600) == "One"


def test_without_marks_words_count_by_their_share_of_the_characters() -> None:
    spoken = SpokenTurn()
    spoken.begin_segment("aaaa bbbb cccc")
    spoken.add(15_000, ())
    spoken.end_segment()
    assert spoken.heard(4_900) == ""
    assert spoken.heard(5_000) == "aaaa"
    assert spoken.heard(10_000) == "aaaa bbbb"


def test_without_marks_an_unfinished_segment_counts_by_the_usual_pace() -> None:
    spoken = SpokenTurn()
    spoken.begin_segment("aaaa bbbb")
    spoken.add(100, ())
    assert spoken.heard(100) == ""
    assert spoken.heard(5 * SAMPLES_PER_CHARACTER) == "aaaa"


@given(st.lists(st.integers(0, 2600), min_size=2, max_size=10))
def test_hearing_more_never_takes_words_back(positions: list[int]) -> None:
    spoken = marked()
    texts = [spoken.heard(samples) for samples in sorted(positions)]
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts))
