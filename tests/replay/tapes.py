"""Whole calls whose kernels are taped, so that they can be run again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rspp import _kernel

if TYPE_CHECKING:
    import pytest

EVERYTHING = 1_000_000


class TapedKernel:
    """A session's kernel that keeps the blocks which are drained from it, and what it was made with."""

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments
        self.blocks: list[bytes] = []
        self._kernel = _kernel.SessionKernel(**arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernel, name)

    def drain_records(self, limit: int) -> bytes:
        block = self._kernel.drain_records(limit)
        if block:
            self.blocks.append(block)
        return block

    def drain_evidence(self, limit: int) -> list[bytes]:
        """What is taped needs no timeline beside it."""
        self.drain_records(limit)
        return []

    def replay(self, **changes: Any) -> _kernel.Replay:
        """Run everything again, with other settings where ``changes`` has them."""
        replay = self.begin(**changes)
        replay.finish()
        return replay

    def begin(self, **changes: Any) -> _kernel.Replay:
        """A replay that was fed with everything and has not moved."""
        while self.drain_records(EVERYTHING):
            pass
        replay = _kernel.Replay(**{**self.arguments, **changes})
        for block in self.blocks:
            replay.feed(block)
        return replay


class Tapes:
    """The taped kernels of the calls that a test holds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kernels: list[TapedKernel] = []

        def taped(**arguments: Any) -> TapedKernel:
            self.kernels.append(TapedKernel(**arguments))
            return self.kernels[-1]

        monkeypatch.setattr("rspp.session.session.SessionKernel", taped)
