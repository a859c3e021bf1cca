"""Which session evidence belongs to, and how its times and ids become those of spans."""

from __future__ import annotations

import hashlib

import msgspec

from rspp.contracts.envelope import DEFAULT_TENANT

SERVICE = "rspp"


class SessionContext(msgspec.Struct, frozen=True, kw_only=True):
    """What all evidence of one kernel's life in a session shares.

    Attributes:
        tenant: whose call it is.
        session_id: the logical conversation.
        pipeline_version: ``name@version``.
        epoch: epoch of the lease that it began under.
        resumed: whether the call was taken over.
        created_us: kernel time of the beginning, microseconds.
        created_wall_ms: wall clock of the beginning, milliseconds.
    """

    tenant: str
    session_id: str
    pipeline_version: str
    epoch: int
    resumed: bool
    created_us: int
    created_wall_ms: int

    @classmethod
    def from_header(cls, header: dict[str, object]) -> SessionContext:
        """Return the context that a recording's header tells; a timeline's older header will do as well."""

        def number(*names: str) -> int:
            return next((value for name in names if isinstance(value := header.get(name), int)), 0)

        return cls(
            tenant=str(header.get("tenant") or DEFAULT_TENANT),
            session_id=str(header.get("session_id", "")),
            pipeline_version=str(header.get("pipeline_version") or header.get("pipeline") or ""),
            epoch=number("epoch"),
            resumed=header.get("resumed") is True,
            created_us=number("created_us", "started_us"),
            created_wall_ms=number("created_wall_ms", "started_wall_ms"),
        )

    def wall_ns(self, at_us: int) -> int:
        """Return the wall clock, nanoseconds since 1970, of a kernel time."""
        return max(0, self.created_wall_ms * 1000 + at_us - self.created_us) * 1000

    def trace_id(self, turn_id: str) -> int:
        """Return the trace of a turn: 128 bits that depend on tenant, session and turn only."""
        return _number(16, "trace", self.tenant, self.session_id, turn_id)

    def span_id(self, turn_id: str, *path: str) -> int:
        """Return the span at ``path`` of a turn's tree: 64 bits, the same each time it is asked for."""
        return _number(8, "span", self.tenant, self.session_id, turn_id, *path)


def _number(size: int, *parts: str) -> int:
    # Lengths before the parts keep ("ab", "c") and ("a", "bc") apart.
    text = "".join(f"{len(part)}:{part}" for part in parts)
    # An id of zero is invalid; the lowest bit costs nothing that would be missed.
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:size]) | 1
