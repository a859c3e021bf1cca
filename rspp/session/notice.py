"""The failure notice, spoken before it is needed: when it is, the voice may be what failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from rspp.contracts.errors import ProviderError
from rspp.providers.registry import embedded_voice

if TYPE_CHECKING:
    from rspp.contracts.media import SpeechChunk
    from rspp.contracts.ports import Offloader, Synthesizer
    from rspp.session.pool import SessionWork

log = structlog.get_logger(__name__)


async def spoken_ahead(
    text: str, voice: Synthesizer, offloader: Offloader, work: SessionWork | None
) -> list[SpeechChunk]:
    """Return ``text`` as speech, by the embedded voice when ``voice`` fails.

    Args:
        text: the notice.
        voice: the pipeline's.
        offloader: where the embedded voice is started.
        work: the session's share of the pool, if it has one.

    Raises:
        ProviderError: the embedded voice fails too.
    """
    try:
        return [chunk async for chunk in voice.synthesize(text)]
    except ProviderError as error:
        log.warning("the embedded voice will speak failure notices", error=error.message)
    embedded = await embedded_voice(offloader, work.seat if work else None)
    try:
        return [chunk async for chunk in embedded.synthesize(text)]
    finally:
        await embedded.close()
