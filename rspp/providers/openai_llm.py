"""Replies by any server with ``/v1/chat/completions``, streaming."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rspp.contracts.ports import Message, ResponseDelta
from rspp.providers.openai_endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from openai.types.chat import ChatCompletionMessageParam

    from rspp.pipeline.spec import OpenAiLlm


class OpenAiResponder:
    """Writes replies by a chat model.

    Args:
        spec: server, model and instructions.
        api_key: empty sends none.
    """

    def __init__(self, spec: OpenAiLlm, api_key: str) -> None:
        self._spec = spec
        self._endpoint = Endpoint("llm", spec, api_key)

    async def respond(self, history: Sequence[Message]) -> AsyncGenerator[ResponseDelta, None]:
        """Stream a reply; closing the iterator ends the request at the server.

        Raises:
            ProviderError: refused, unreachable, silent for ``timeout_ms``, or an empty reply.
        """
        spec, endpoint = self._spec, self._endpoint
        messages: list[ChatCompletionMessageParam] = []
        if spec.system:
            messages.append({"role": "system", "content": spec.system})
        for message in history:
            if message.role == "user":
                messages.append({"role": "user", "content": message.text})
            else:
                messages.append({"role": "assistant", "content": message.text})
        limit = "max_completion_tokens" if endpoint.official else "max_tokens"
        with endpoint.failures():
            stream = await endpoint.within(
                endpoint.client.chat.completions.create(
                    model=spec.model,
                    messages=messages,
                    stream=True,
                    temperature=spec.temperature,
                    extra_body={limit: spec.max_tokens},
                    extra_headers=endpoint.headers,
                )
            )
        said = False
        ending = ""
        try:
            parts = aiter(stream)
            while True:
                with endpoint.failures():
                    part = await endpoint.within(anext(parts, None))
                    choice = part.choices[0] if part is not None and part.choices else None
                    text = (choice.delta.content or "") if choice is not None else ""
                    ending = (choice.finish_reason or ending) if choice is not None else ending
                if part is None:
                    break
                if text:
                    said = True
                    yield ResponseDelta(text=text)
        finally:
            await stream.close()
        if said:
            return
        if ending == "content_filter":
            raise endpoint.blocked("held the reply back", "provider_auth_or_policy_block")
        raise endpoint.failure("sent an empty reply", hint="check the model, 'system' and 'max_tokens'")

    async def close(self) -> None:
        """Close the connections."""
        await self._endpoint.close()
