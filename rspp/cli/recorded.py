"""The recordings that commands name, opened for whoever asks."""

from __future__ import annotations

import getpass
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import Parameter

if TYPE_CHECKING:
    from rspp.evidence.permission import Asker
    from rspp.evidence.reader import Recording


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Whose recording is asked for, and by whom."""

    evidence: Path = Path("evidence")
    """Folder of the recordings, for a session id."""
    tenant: str = ""
    """Whose session it is; RSPP_TENANT, else default."""
    role: str = ""
    """In which role you ask; needed where the tenant's evidence has access rules."""
    purpose: str = ""
    """What for, such as debug or incident; needed where the tenant's evidence has access rules."""
    principal: str = ""
    """Who asks; the name of this user by default."""


def asker_of(asking: Asking) -> Asker:
    """Return who asks.

    Raises:
        ConfigurationError: the tenant's name cannot be one.
    """
    from rspp.evidence.permission import Asker
    from rspp.runtime.environment import TENANT_VARIABLE, tenant_name

    tenant = asking.tenant or os.environ.get(TENANT_VARIABLE, "").strip()
    return Asker(
        asking.principal or getpass.getuser(),
        asking.role,
        asking.purpose,
        tenant_name(tenant) if tenant else "",
    )


def place_of(recording: str, asking: Asking) -> Path:
    """Return where a recording lies that is named by its path, or by the id of its session.

    Raises:
        EvidenceError: there is none.
        ConfigurationError: the tenant's name cannot be one.
    """
    from rspp.contracts.errors import EvidenceError
    from rspp.runtime.environment import tenant_name

    path = Path(recording)
    named = asking.evidence / tenant_name(asking.tenant) / recording
    # A name too long for a file is that of none.
    with suppress(OSError):
        if path.exists():
            return path
    with suppress(OSError):
        if named.is_dir():
            return named
    raise EvidenceError(
        f"recording {recording!r}: neither a path nor the id of a session in {asking.evidence}",
        hint="name a session's folder, or its id with --evidence FOLDER and --tenant NAME",
    )


def open_asked(
    recording: str, asking: Asking, *, fidelity: str = "L0", classes: tuple[str, ...] = ("metadata",)
) -> Recording:
    """Open a recording by its path, or by the id of its session, once its tenant's rules allow it.

    Args:
        recording: as it was named.
        asking: who asks.
        fidelity: L0, L1 or L2.
        classes: payload classes that are read.

    Raises:
        EvidenceError: there is none, or the request was denied.
        ConfigurationError: the tenant's name or rules are not usable.
    """
    from rspp.evidence.permission import open_permitted

    return open_permitted(place_of(recording, asking), asker_of(asking), fidelity=fidelity, classes=classes)
