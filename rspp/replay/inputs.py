"""Recorded inputs, given to a kernel once more from Python.

``rspp._kernel.Replay`` does the same within the kernel and compares record by record; here every step is
in Python's hands, because a changed kernel must be answered differently from the recorded one.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from rspp import _kernel
from rspp.contracts.errors import ConfigurationError, EvidenceError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Record: TypeAlias = dict[str, Any]
Effects: TypeAlias = Sequence[_kernel.Effect]


def kernel_of(header: Mapping[str, Any], **changes: Mapping[str, Any]) -> _kernel.SessionKernel:
    """Build the kernel that a stint ran on.

    Args:
        header: header of the stint's first segment.
        changes: keyword arguments to use instead of recorded ones, under ``policy``, ``plan`` or
            ``providers``.

    Raises:
        EvidenceError: the header does not hold the settings, or a value is not one that a kernel takes.
        ConfigurationError: a change is none that a kernel takes.
    """
    return _kernel.SessionKernel(**kernel_arguments(header, **changes))


def kernel_arguments(header: Mapping[str, Any], **changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of ``SessionKernel`` and ``Replay`` for a stint; see ``kernel_of``."""
    _check_names(changes)
    try:
        settings: dict[str, dict[str, Any]] = {
            part: {**header["settings"][part], **changes.get(part, {})}
            for part in ("policy", "plan", "providers")
        }
        return {
            "session_id": header["session_id"],
            "policy": _kernel.TurnPolicy(**settings["policy"]),
            "plan": _kernel.PlanTemplate(**settings["plan"]),
            "providers": _kernel.ProviderPolicy(**_with_pairs(settings["providers"])),
            "now_us": header["created_us"],
            "wall_clock_ms": header["created_wall_ms"],
            "evidence_capacity": header["settings"]["evidence_capacity"],
            "behaviours": header["behaviours"],
        }
    except KeyError as error:
        raise EvidenceError(
            f"the recording's header has no {error.args[0]!r}",
            hint="a stint begins with its kernel's settings: read the whole recording, not a later segment",
        ) from error
    except (TypeError, ValueError, OverflowError) as error:
        if any(changes.values()):
            given = (
                f"{part}.{name}={value!r}"
                for part, values in changes.items()
                for name, value in values.items()
            )
            raise ConfigurationError(
                f"{', '.join(given)[:200]}: {error}", hint="change it to a value that the kernel takes"
            ) from error
        raise EvidenceError(
            f"the recorded settings do not fit this kernel: {error}",
            hint="replay with the changes that this version needs, or with the version that recorded it",
        ) from error


def _check_names(changes: Mapping[str, Mapping[str, Any]]) -> None:
    kinds = {"policy": _kernel.TurnPolicy, "plan": _kernel.PlanTemplate, "providers": _kernel.ProviderPolicy}
    for part, values in changes.items():
        known = list(inspect.signature(kinds[part]).parameters)
        unknown = [name for name in values if name not in known]
        if unknown:
            raise ConfigurationError(
                f"{part}.{unknown[0]}: the kernel has no such setting", hint=f"{part} has {', '.join(known)}"
            )


_PAIRED = ("candidates", "lesser", "node_budgets")


def _with_pairs(providers: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no pairs, and the kernel takes nothing else for a candidate."""
    listed = {name: providers[name] for name in _PAIRED if name in providers}
    return {**providers, **{name: [tuple(pair) for pair in pairs] for name, pairs in listed.items()}}


def _lease(kernel: _kernel.SessionKernel, record: Record) -> Effects:
    return kernel.lease(record["at_us"], record["epoch"], record["deadline_us"])


def _voice_activity(kernel: _kernel.SessionKernel, record: Record) -> Effects:
    return kernel.voice_activity(record["at_us"], record["media_sample"], record["permille"])


def _connection(kernel: _kernel.SessionKernel, record: Record) -> Effects:
    return kernel.connection(record["at_us"], record["state"], record["reason"])


def _ingress(kernel: _kernel.SessionKernel, record: Record) -> Effects:
    kernel.ingress(record["at_us"], record["carrier_epoch"])
    return ()


def _arrival(kernel: _kernel.SessionKernel, record: Record) -> Effects:
    # Recorded is a hash of the id, by which a repeated one is told as well.
    kernel.arrive(record["at_us"], record["event"], record["bytes"], record["carrier_epoch"])
    return ()


def _level_lowered(kernel: _kernel.SessionKernel, record: Record) -> Effects:
    kernel.level_lowered(record["at_us"], record["reason"])
    return ()


def _reattach(kernel: _kernel.SessionKernel, record: Record) -> Effects:
    kernel.reattach(record["at_us"], record["turns"], record["messages"])
    return ()


def _admission(kernel: _kernel.SessionKernel, record: Record) -> Effects:
    said = ("point", "outcome", "reason", "snapshot", "fairness_key", "in_use", "places", "key_in_use")
    kernel.admission(record["at_us"], **{name: record[name] for name in (*said, "key_share", "claim_us")})
    return ()


def _turn_start(kernel: _kernel.SessionKernel, record: Record) -> Effects:
    said = ("version", "usable_until_us", "failure", "provenance", "adaptive_actions", "claim_us")
    admission = ("admission", "admission_scope", "admission_reason")
    authority = ("authority_epoch", "authority_valid", "authority_authorized")
    kernel.turn_start(record["at_us"], **{name: record[name] for name in (*said, *admission, *authority)})
    return ()


ENVIRONMENT: dict[str, Callable[[_kernel.SessionKernel, Record], Effects]] = {
    "lease": _lease,
    "lease_lost": lambda kernel, record: kernel.lease_lost(record["at_us"], record["reason"]),
    "start": lambda kernel, record: kernel.start(record["at_us"], record["resumed"]),
    "voice_activity": _voice_activity,
    "text_message": lambda kernel, record: kernel.text_message(record["at_us"], record["reference"]),
    "cancel": lambda kernel, record: kernel.cancel(record["at_us"], record["signal"]),
    "connection": _connection,
    "cancel_within": lambda kernel, record: kernel.cancel_within(
        record["at_us"], record["scope"], record["target"]
    ),
    "routing_view": lambda kernel, record: kernel.routing_view(record["at_us"], record["epoch"]),
    "migration": lambda kernel, record: kernel.migration(record["at_us"], record["step"], record["epoch"]),
    "drain": lambda kernel, record: kernel.drain(record["at_us"]),
    "ingress": _ingress,
    "admission": _admission,
    "turn_start": _turn_start,
    "reattach": _reattach,
    "level_lowered": _level_lowered,
    "arrival": _arrival,
}
"""Inputs that come from the world: they do not depend on what the kernel decided before."""


def inputs_of(records: Sequence[Record]) -> list[Record]:
    """Return the records that are inputs, in order."""
    return [record for record in records if record["kind"] == "input"]
