"""``rspp-runtime rotate-lease``: puts a running session under a higher epoch, with the same holder."""

from __future__ import annotations

import json as documents
import time
from contextlib import closing
from pathlib import Path  # noqa: TC003 - cyclopts reads the annotations when it parses
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from rspp.terminal import show_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from rspp.authority.store import LeaseHeld, LeaseStore

LOOK_SECONDS = 0.1
"""How often the store is asked whether the holder has renewed."""
LOOKS = 60
"""How often at most: six seconds, longer than a lease lasts without renewal."""


def rotate_lease(
    *, session: str, state: Path | None = None, json: Annotated[bool, Parameter(negative="")] = False
) -> int:
    """Put a running session under a higher epoch; the runtime that holds it goes on with the call.

    Whatever still carries the old epoch is refused from then on. It takes effect when the runtime next
    renews, within a second; a turn that is running then is aborted: its plan is frozen with its epoch.

    Args:
        session: id of the conversation.
        state: folder of the lease store; $XDG_STATE_HOME/rspp by default.
        json: print one JSON object.

    Returns:
        0 when the higher epoch is in force, 1 when it did not come, 2 when nobody holds the session.
    """
    from rspp.authority.clock import BootClock
    from rspp.authority.sqlite import SqliteLeaseStore
    from rspp.contracts.errors import ConfigurationError
    from rspp.runtime.environment import checked_name, state_path
    from rspp.runtime.join import LEASE_FILE

    checked_name(session, "--session")
    file = state_path(state) / LEASE_FILE
    if not file.is_file():
        raise ConfigurationError(
            f"--state: no lease store ({str(file)!r})",
            hint="name the folder that the runtime was started with",
        )
    with closing(SqliteLeaseStore(file, BootClock())) as store:
        before = store.rotate(session)
        if before is None:
            raise ConfigurationError(
                f"--session {session!r}: no runtime holds it now",
                hint="there is nothing to rotate: whoever takes it next gets a higher epoch anyway",
            )
        after = until_rotated(store, before, time.sleep)
    if after is None:
        show_error(
            f"session {session}: its holder {before.holder} did not renew and epoch {before.epoch} ended",
            "the next holder gets a higher epoch; see the log of the old one",
        )
        return 1
    if after.epoch == before.epoch:
        show_error(
            f"session {session}: its holder {before.holder} renews, but stays at epoch {before.epoch}",
            "it runs an earlier version of RSPP: drain it, and let another runtime take its calls",
        )
        return 1
    if json:
        told = {"session": session, "holder": after.holder, "epoch": after.epoch, "before": before.epoch}
        print(documents.dumps(told))
    else:
        print(f"session {session}: epoch {before.epoch} -> {after.epoch}, held by {after.holder}")
    return 0


def until_rotated(store: LeaseStore, before: LeaseHeld, sleep: Callable[[float], None]) -> LeaseHeld | None:
    """Wait a while until a session has a higher epoch than it had; blocks.

    Args:
        store: which was asked to rotate it.
        before: what was in force then.
        sleep: waits that many seconds.

    Returns:
        What is in force now; none when nobody holds the session any more.

    Raises:
        LeaseStoreError: the store cannot be used.
    """
    for _ in range(LOOKS):
        sleep(LOOK_SECONDS)
        # Asking again for the same epoch is asking once.
        held = store.rotate(before.session_id, before.epoch)
        if held is None or held.epoch != before.epoch:
            return held
    return before
