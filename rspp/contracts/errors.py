"""The errors of RSPP: one base, few children, each with a reason code and a remedy."""

from __future__ import annotations


class RsppError(Exception):
    """Base of every error that RSPP raises on purpose.

    Args:
        message: what is wrong, naming field and value.
        hint: what to do about it.
        reason: code from the table of reasons.
    """

    reason = "internal_error"
    exit_status = 2

    def __init__(self, message: str, *, hint: str = "", reason: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if reason is not None:
            self.reason = reason


class ConfigurationError(RsppError):
    """A file, flag or environment variable is missing or wrong."""

    reason = "configuration_invalid"


class TransportError(RsppError):
    """The room or the server cannot be reached, refuses, or went away."""

    reason = "transport_disconnect_or_stall"


class ProviderError(RsppError):
    """A provider invocation did not succeed.

    Args:
        message: what happened.
        outcome: outcome class of the provider contract (timeout, overload, blocked,
            infrastructure_failure, cancelled).
        retryable: whether the same call may succeed later.
    """

    reason = "provider_failure"

    def __init__(
        self,
        message: str,
        *,
        outcome: str = "infrastructure_failure",
        retryable: bool = False,
        hint: str = "",
        reason: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, reason=reason)
        self.outcome = outcome
        self.retryable = retryable


class AuthorityError(RsppError):
    """The session's lease is held by another runtime, or was lost."""

    reason = "lease_deauthorized"


class EvidenceError(RsppError):
    """Evidence cannot be written or read."""

    reason = "recording_evidence_unavailable"
