"""What the runtime takes from its surroundings: server, key and folders."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec
import structlog

from rspp.contracts.envelope import DEFAULT_TENANT
from rspp.contracts.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rspp.evidence.writer import EvidenceWriter
    from rspp.transports.livekit_access import ServerAccess

VARIABLES = ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET")
SCHEMES = ("ws", "wss", "http", "https")
NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
"""What may become part of a file name and of a participant identity."""
TENANT_VARIABLE = "RSPP_TENANT"
RESERVED_TENANTS = ("audit", "index.sqlite")
"""Names that the evidence folder uses itself."""

log = structlog.get_logger(__name__)


def load_env_file(folder: Path) -> None:
    """Put the values of ``.env`` in ``folder`` into the environment; what is set already wins.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    path = folder / ".env"
    if not path.is_file():
        return
    from dotenv import dotenv_values

    try:
        values = dotenv_values(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}",
            hint="correct the file, or set the variables in the environment",
        ) from error
    for name, value in values.items():
        if value is not None:
            os.environ.setdefault(name, value)


def server_access(environment: Mapping[str, str] | None = None) -> ServerAccess:
    """Return the LiveKit server of the environment.

    Args:
        environment: ``os.environ`` when absent.

    Raises:
        ConfigurationError: a variable is missing or the address is none.
    """
    from rspp.transports.livekit_access import ServerAccess

    given = os.environ if environment is None else environment
    values = {name: given.get(name, "").strip() for name in VARIABLES}
    missing = [name for name, value in values.items() if not value]
    if missing:
        raise ConfigurationError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set",
            hint="set LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET in the environment or in .env",
        )
    url = values["LIVEKIT_URL"]
    if not _is_address(url):
        raise ConfigurationError(
            f"LIVEKIT_URL {url!r} is not an address", hint="write it as ws://host:7880 or wss://host"
        )
    return ServerAccess(url=url, api_key=values["LIVEKIT_API_KEY"], api_secret=values["LIVEKIT_API_SECRET"])


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in SCHEMES and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def state_folder(given: Path | None) -> Path:
    """Return the folder of the lease store, made when missing.

    Raises:
        ConfigurationError: it cannot be made.
    """
    return _make(state_path(given), "--state")


def state_path(given: Path | None) -> Path:
    """Return where the folder of the lease store is, whether it exists or not."""
    if given is not None:
        return given
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "rspp"


class EvidencePlan(msgspec.Struct, frozen=True, kw_only=True):
    """Where and how calls are recorded.

    Attributes:
        folder: folder of all evidence; none records nothing.
        tenant: whose calls they are.
        fsync: when the disk is waited for.
        secret_names: environment variables whose values are never kept, besides those named like secrets.
    """

    folder: Path | None = None
    tenant: str = DEFAULT_TENANT
    fsync: str = "interval"
    secret_names: tuple[str, ...] = ()


@contextmanager
def open_evidence(plan: EvidencePlan) -> Iterator[EvidenceWriter | None]:
    """Open the writer of a process; none where nothing is recorded.

    Raises:
        ConfigurationError: the folder cannot be made.
    """
    if plan.folder is None:
        log.warning("calls are not recorded", remedy="name a folder with --evidence")
        yield None
        return
    from rspp.evidence.payloads import PayloadStore
    from rspp.evidence.writer import EvidenceWriter

    payloads = PayloadStore(plan.folder, plan.tenant, secret_names=plan.secret_names)
    with EvidenceWriter(plan.folder, plan.tenant, fsync=plan.fsync, payloads=payloads) as writer:
        yield writer


def checked_name(value: str, field: str) -> str:
    """Return ``value`` if it may name a session or a tenant.

    Raises:
        ConfigurationError: it may not.
    """
    if not NAME.match(value):
        raise ConfigurationError(
            f"{field} {value!r} cannot be part of a name",
            hint="use at most 100 letters, digits, points, dashes and underscores, a letter or digit first",
        )
    return value


def tenant_name(given: str, environment: Mapping[str, str] | None = None) -> str:
    """Return whose calls a command is about: what was given, else ``RSPP_TENANT``, else ``default``.

    Args:
        given: as given by the user; empty for none.
        environment: ``os.environ`` when absent.

    Raises:
        ConfigurationError: the name cannot name a tenant.
    """
    values = os.environ if environment is None else environment
    name = given or values.get(TENANT_VARIABLE, "").strip() or DEFAULT_TENANT
    if not NAME.match(name) or name in RESERVED_TENANTS:
        raise ConfigurationError(
            f"{'--tenant' if given else TENANT_VARIABLE} {name!r} cannot name a tenant",
            hint="use at most 100 letters, digits, points, dashes and underscores, a letter or digit first; "
            f"not {' or '.join(RESERVED_TENANTS)}",
        )
    return name


def session_of_room(room: str) -> str:
    """Return the session id that a room stands for unless one is given.

    Raises:
        ConfigurationError: it is no name of a room.
    """
    if not room.strip():
        raise ConfigurationError(f"--room {room!r} names no room", hint="give the name of the room to join")
    cleaned = re.sub(r"[^A-Za-z0-9._-]+", "-", room).strip("-._")[:100]
    return cleaned or "room"


def _make(folder: Path, flag: str) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"{flag} {str(folder)!r} cannot be made: {error.strerror or error}",
            hint="name a folder that this user may write to",
        ) from error
    return folder
