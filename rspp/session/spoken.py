"""What a turn has said so far: word marks and samples, so that history holds what was heard."""

from __future__ import annotations

from rspp.contracts.media import OUTPUT_RATE_HZ, WordMark

SAMPLES_PER_CHARACTER = OUTPUT_RATE_HZ // 15
"""Speech runs at about 15 characters a second (165 words a minute, 5.5 characters a word); used only
for a segment that was cut before its length was known."""


class SpokenTurn:
    """The words of one turn's speech and where they sound.

    Positions are samples at 24 kHz from the turn's first sample.
    """

    def __init__(self) -> None:
        self._words: list[tuple[str, int]] = []
        self._segments: list[tuple[str, int]] = []
        self._marked_segments: set[int] = set()
        self._complete = 0
        self.generated = 0

    def begin_segment(self, text: str) -> None:
        """A segment starts at the present end of the speech."""
        self._segments.append((text, self.generated))

    @property
    def text(self) -> str:
        """All segments so far, heard or not."""
        return " ".join(text for text, _ in self._segments)

    def add(self, samples: int, words: tuple[WordMark, ...]) -> None:
        """Speech of the present segment was generated."""
        start = self._segments[-1][1]
        self._words.extend((word.text, start + word.start) for word in words)
        if words:
            self._marked_segments.add(len(self._segments) - 1)
        self.generated += samples

    def end_segment(self) -> None:
        """The present segment has been generated whole."""
        self._complete = len(self._segments)

    def heard(self, samples: int) -> str:
        """Return the words that ended within the first ``samples`` samples.

        A word ends where the next one of its turn begins. A segment whose voice reports no marks
        gives words in proportion to its characters.
        """
        spoken: list[str] = []
        for index, (text, start) in enumerate(self._segments):
            if index + 1 < len(self._segments):
                end = self._segments[index + 1][1]
            elif index < self._complete:
                end = self.generated
            else:
                end = max(self.generated + 1, start + len(text) * SAMPLES_PER_CHARACTER)
            if samples >= end:
                spoken.append(text)
                continue
            if samples > start:
                spoken.extend(self._partly(index, text, start, end, samples))
            break
        return " ".join(spoken)

    def _partly(self, index: int, text: str, start: int, end: int, samples: int) -> list[str]:
        if index in self._marked_segments:
            marks = [(word, at) for word, at in self._words if start <= at < end]
            ends = [at for _, at in marks[1:]] + [end]
            return [word for (word, _), word_end in zip(marks, ends, strict=True) if word_end <= samples]
        words, characters, taken = text.split(), 0, []
        for word in words:
            characters += len(word) + 1
            if start + (end - start) * characters / (len(text) + 1) > samples:
                break
            taken.append(word)
        return taken
