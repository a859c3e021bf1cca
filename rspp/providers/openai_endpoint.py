"""What the three providers for OpenAI-compatible servers share: the client and the mapping of failures."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

import openai

from rspp.contracts.errors import ProviderError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    from rspp.pipeline.spec import OpenAiEndpoint

T = TypeVar("T")

OPENAI_HOST: Final = "api.openai.com"
LONGEST_QUOTE: Final = 200
TIMEOUT_STATUS: Final = frozenset({408, 504})
BLOCKED_STATUS: Final = frozenset({401, 403})


class Endpoint:
    """One server: a client without retries, and its failures as ``ProviderError``.

    Attributes:
        client: the client.
        headers: extra headers of every request: what must not be sent to this server.
        official: whether it is OpenAI's own server.

    Args:
        section: section of the pipeline file, for messages.
        spec: address, model and timeout.
        api_key: empty sends none.
    """

    def __init__(self, section: str, spec: OpenAiEndpoint, api_key: str) -> None:
        parts = urlsplit(spec.base_url)
        self.official = parts.hostname == OPENAI_HOST
        self._name = f"{section} at {parts.hostname}" + (f":{parts.port}" if parts.port else "")
        self._key = api_key
        self._timeout_s = spec.timeout_ms / 1000
        # The client insists on a key unless each request withholds it.
        self.headers: dict[str, openai.Omit] = {} if api_key else {"Authorization": openai.Omit()}
        if not self.official:
            self.headers |= {"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()}
        self.client = openai.AsyncOpenAI(
            base_url=spec.base_url,
            api_key=api_key or "none",
            max_retries=0,
            timeout=self._timeout_s,
        )

    async def within(self, work: Awaitable[T]) -> T:
        """Await one result for at most the endpoint's timeout.

        Raises:
            TimeoutError: it did not come; ``failures`` turns that into a ``ProviderError``.
        """
        async with asyncio.timeout(self._timeout_s):
            return await work

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Turn whatever goes wrong inside into a ``ProviderError`` by the table of the contract (8.3)."""
        try:
            yield
        except (ProviderError, StopAsyncIteration):
            raise
        except openai.APIStatusError as error:
            raise self._by_status(error) from None
        except (openai.APITimeoutError, TimeoutError):
            raise self._timeout() from None
        except openai.APIConnectionError:
            raise self._unreachable() from None
        except Exception as error:
            # The HTTP library under the client depends on the client's version, so its errors are told
            # by name; they reach us from streamed bodies only.
            names = {kind.__name__ for kind in type(error).__mro__}
            if "TimeoutException" in names:
                raise self._timeout() from None
            if "TransportError" in names or isinstance(error, OSError):
                raise self._unreachable() from None
            if isinstance(error, openai.APIError):
                raise self.failure(f"reported an error in mid-stream: {self._quote(error.message)}") from None
            raise ProviderError(
                f"{self._name}: the answer was not understood ({type(error).__name__})",
                retryable=True,
                reason="adapter_invoke_error",
                hint="check that the server speaks the OpenAI protocol",
            ) from error

    def failure(self, problem: str, *, hint: str = "") -> ProviderError:
        """An answer that is no answer, though the server gave it."""
        return ProviderError(
            f"{self._name} {problem}", retryable=True, reason="provider_server_error", hint=hint
        )

    def blocked(self, problem: str, reason: str, *, hint: str = "") -> ProviderError:
        """A refusal that will be the same next time."""
        return ProviderError(f"{self._name} {problem}", outcome="blocked", reason=reason, hint=hint)

    def _by_status(self, error: openai.APIStatusError) -> ProviderError:
        status = error.status_code
        if status in BLOCKED_STATUS:
            # The server's own words may quote the key.
            return self.blocked(
                f"refused the key (status {status})",
                "provider_auth_or_policy_block",
                hint="check the key in the environment variable that api_key_env names, and its rights",
            )
        answer = f"answered with status {status}: {self._quote(error.message)}"
        if status == 429:
            return ProviderError(
                f"{self._name} {answer}", outcome="overload", retryable=True, reason="provider_overload"
            )
        if status in TIMEOUT_STATUS:
            return ProviderError(
                f"{self._name} {answer}", outcome="timeout", retryable=True, reason="provider_timeout"
            )
        if 400 <= status < 500:
            return self.blocked(answer, "provider_client_error", hint="check base_url, model and voice")
        return self.failure(answer)

    def _timeout(self) -> ProviderError:
        return ProviderError(
            f"{self._name} gave nothing for {self._timeout_s:g} s",
            outcome="timeout",
            retryable=True,
            reason="provider_timeout",
            hint="raise timeout_ms, or use a faster server or model",
        )

    def _unreachable(self) -> ProviderError:
        return ProviderError(
            f"{self._name} cannot be reached, or ended the connection",
            retryable=True,
            reason="provider_transport_error",
            hint="check base_url and that the server runs",
        )

    def _quote(self, text: str) -> str:
        hidden = text.replace(self._key, "***") if self._key else text
        return " ".join(hidden.split())[:LONGEST_QUOTE]

    async def close(self) -> None:
        """Close the connections; safe to call twice."""
        await self.client.close()
