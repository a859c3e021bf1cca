from hypothesis import given
from hypothesis import strategies as st

from rspp.nodes.segmenter import MAX_CHARACTERS, Segmenter


def whole(text: str, sizes: list[int]) -> list[str]:
    segmenter, segments, at = Segmenter(), [], 0
    for size in sizes:
        segments += segmenter.push(text[at : at + size])
        at += size
    return segments + segmenter.push(text[at:]) + segmenter.flush()


def test_sentences_become_segments() -> None:
    assert whole("We open at nine. Do come by! ", []) == ["We open at nine.", "Do come by!"]


def test_a_title_or_an_initial_ends_no_sentence() -> None:
    assert whole("Ask for Dr. Jones or J. Smith today. Thanks.", []) == [
        "Ask for Dr. Jones or J. Smith today.",
        "Thanks.",
    ]


def test_a_number_is_not_cut_at_its_point() -> None:
    assert whole("It costs 3.50 a day. Yes.", []) == ["It costs 3.50 a day.", "Yes."]


def test_a_first_segment_is_given_as_soon_as_it_is_whole() -> None:
    segmenter = Segmenter()
    assert segmenter.push("One two. Thr") == ["One two."]
    assert segmenter.push("ee four.") == []
    assert segmenter.flush() == ["Three four."]


@given(st.text(alphabet="ab .!?;", max_size=900), st.lists(st.integers(1, 40), max_size=40))
def test_no_word_is_lost_whatever_the_pieces(text: str, sizes: list[int]) -> None:
    segments = whole(text, sizes)
    assert "".join("".join(segments).split()) == "".join(text.split())
    assert all(segment == segment.strip() and segment for segment in segments)


@given(st.text(alphabet="abc ", max_size=3000))
def test_segments_stay_bounded_without_any_sentence_end(text: str) -> None:
    assert all(len(segment) <= MAX_CHARACTERS for segment in whole(text, []))
