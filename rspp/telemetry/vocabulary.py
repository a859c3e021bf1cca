"""What may leave as telemetry: words of closed lists, and labels of which there are few.

Evidence may hold words that somebody outside chose: a room's disconnect reason, a provider's error. Of
those only the ones in a vocabulary are exported; anything else becomes ``other``. So neither a sentence
of the caller nor an unbounded number of label values can reach a metrics store.
"""

from __future__ import annotations

import re

from rspp import _kernel

OTHER = "other"
NONE = "none"
MAX_TENANTS = 50
MAX_PIPELINES = 50
MAX_NAMES = 64
"""Most providers and most edges told apart."""

REASONS = frozenset(code for code, _, _ in _kernel.reason_codes())
SIGNALS = frozenset(name for name, *_ in _kernel.signal_registry())
EMITTERS = frozenset(emitter for _, emitters, *_ in _kernel.signal_registry() for emitter in emitters)
LANES = frozenset({"ControlLane", "DataLane", "TelemetryLane"})
TRIGGERS = frozenset(trigger for _, trigger, _ in _kernel.transition_table())
STATES = frozenset(state for before, _, after in _kernel.transition_table() for state in (before, after))
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._:/@+>-]{0,99}$")

MODALITIES = frozenset({"stt", "llm", "tts"})
OUTCOMES = frozenset({"success", "timeout", "overload", "blocked", "infrastructure_failure", "cancelled"})
POOL_REFUSALS = frozenset({"rejected", "displaced", "expired", "overdue", "stuck"})
VERDICTS = frozenset({"held", "fenced", "stale_epoch", "lease_expired"})
"""Why the gate refuses a frame."""
RETRY_DECISIONS = frozenset({"none", "retry", "provider_switch", "fallback"})
DECISIONS = frozenset({"admit", "reject", "defer", "shed", "stale_epoch_reject", "deauthorized_drain"})
PHASES = frozenset({"pre_turn", "scheduling_point", "active_turn", "turn_start", "session_bootstrap"})
CONNECTION_STATES = frozenset(
    {"connected", "reconnecting", "disconnected", "ended", "silence", "stall", "muted"}
)


def reason_of(value: object) -> str:
    """Return a reason of the closed table, ``none`` for an absent one, else ``other``."""
    if value is None or value == "":
        return NONE
    return value if isinstance(value, str) and value in REASONS else OTHER


def word_of(value: object, vocabulary: frozenset[str]) -> str:
    """Return ``value`` if the vocabulary has it, else ``other``."""
    return value if isinstance(value, str) and value in vocabulary else OTHER


def name_of(value: object) -> str:
    """Return a name from the configuration (a provider, an edge) if it looks like one, else ``other``."""
    return value if isinstance(value, str) and _NAME.match(value) else OTHER


class BoundedNames:
    """The first ``limit`` names are told apart, all later ones are ``other``.

    Args:
        limit: most names.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def __call__(self, value: object) -> str:
        """Return the label for a name."""
        name = name_of(value)
        if name in self._known or name == OTHER:
            return name
        if len(self._known) >= self._limit:
            return OTHER
        self._known.add(name)
        return name
