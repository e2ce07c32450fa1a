"""The chat app's client of an OpenAI-compatible model: plain httpx, one retry after a "try again", one kind of error.

Nothing here knows of telemetry: that these calls are seen, counted and priced is the instrumentation's business.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Final

import httpx

Messages = list[dict[str, Any]]

#: Waits longer than this, in seconds, are not worth it while somebody is waiting for an answer.
LONGEST_WAIT: Final = 2.0
_TOO_MANY: Final = 429


class ModelError(Exception):
    """The model gave no usable answer. `timed_out` tells a slow one from a broken one."""

    def __init__(self, problem: str, *, timed_out: bool = False) -> None:
        super().__init__(problem)
        self.timed_out = timed_out


class Model:
    """One model server. `retries` counts the calls that were repeated, over its life."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def complete(self, model: str, messages: Messages, **more: Any) -> dict[str, Any]:
        """Return the assistant's message, or raise ModelError."""
        response = await self._send({"model": model, "messages": messages, **more})
        try:
            body = await response.aread()
            message: dict[str, Any] = json.loads(body)["choices"][0]["message"]
        except httpx.HTTPError as error:
            raise _translated(model, error) from error
        except (ValueError, LookupError, TypeError) as error:
            raise ModelError(f"{model} sent an answer that cannot be read") from error
        finally:
            await response.aclose()
        return message

    async def stream(self, model: str, messages: Messages, **more: Any) -> AsyncIterator[str]:
        """Yield the text of the answer as it comes, or raise ModelError, possibly in the middle."""
        options = {"stream": True, "stream_options": {"include_usage": True}}
        response = await self._send({"model": model, "messages": messages, **options, **more})
        try:
            async for line in response.aiter_lines():
                if line == "data: [DONE]":
                    return
                if line.startswith("data: "):
                    for choice in json.loads(line[6:])["choices"]:
                        yield choice["delta"].get("content") or ""
        except httpx.HTTPError as error:
            raise _translated(model, error) from error
        finally:
            await response.aclose()
        raise ModelError(f"{model} broke off in the middle of its answer")

    async def _send(self, body: dict[str, Any]) -> httpx.Response:
        for last in (False, True):
            request = self._client.build_request("POST", "/v1/chat/completions", json=body)
            try:
                response = await self._client.send(request, stream=True)
            except httpx.HTTPError as error:
                raise _translated(body["model"], error) from error
            if response.is_success:
                return response
            await response.aclose()
            wait = _wait(response)
            if last or wait is None:
                raise ModelError(f"{body['model']} answered {response.status_code}")
            await asyncio.sleep(wait)
        raise AssertionError


def _wait(response: httpx.Response) -> float | None:
    """Return the seconds to wait before asking once more, or None where that makes no sense."""
    if response.status_code != _TOO_MANY:
        return None
    retry_after = response.headers.get("retry-after-ms")
    seconds = float(retry_after) / 1000 if retry_after else float(response.headers.get("retry-after", "1"))
    return seconds if seconds <= LONGEST_WAIT else None


def _translated(model: str, error: httpx.HTTPError) -> ModelError:
    slow = isinstance(error, httpx.TimeoutException)
    return ModelError(f"{model} {'took too long' if slow else 'could not be reached'}", timed_out=slow)
