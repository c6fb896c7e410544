import asyncio
from collections.abc import AsyncIterator

import aiohttp
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from cortex.runtime.contract import Health
from cortex.runtime.pretend import HEADER, LOG, OPEN, Knobs, application, serving
from cortex.runtime.probe import ask
from engines.contract import Probe

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello there, pretend model"}]


@pytest.fixture
async def address() -> AsyncIterator[str]:
    async with serving() as address:
        yield address


@pytest.fixture
async def client(address: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"http://{address}/v1", api_key="any", max_retries=0) as client:
        yield client


async def test_it_is_healthy_or_loading_as_ordered(address: str) -> None:
    assert await asyncio.to_thread(ask, address, Probe()) is Health.READY
    async with serving(Knobs(loading=True)) as loading:
        assert await asyncio.to_thread(ask, loading, Probe()) is Health.LOADING


async def test_it_lists_its_models(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["pretend"]


async def test_a_chat_is_answered_and_counted(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="m", messages=HELLO)
    assert "pretend" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 4
    assert answer.usage.total_tokens == 4 + answer.usage.completion_tokens


async def test_a_stream_says_the_same_and_ends_with_usage(client: openai.AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(model="m", messages=HELLO)
    stream = await client.chat.completions.create(
        model="m",
        messages=HELLO,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.rstrip() == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    assert chunks[-1].choices == []
    assert chunks[-2].choices[0].finish_reason == "stop"


async def test_a_stream_tells_usage_only_when_asked(client: openai.AsyncOpenAI) -> None:
    async with aiohttp.ClientSession() as session:
        url = str(client.base_url) + "chat/completions"
        async with session.post(url, json={"model": "m", "messages": HELLO, "stream": True}) as answer:
            body = await answer.text()
    assert "usage" not in body
    assert body.endswith("data: [DONE]\n\n")


async def test_it_stops_at_the_tokens_asked_for(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="m", messages=HELLO, max_tokens=3)
    assert answer.choices[0].finish_reason == "length"
    assert len((answer.choices[0].message.content or "").split()) == 3
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


async def test_a_text_is_completed_whole_and_streamed(client: openai.AsyncOpenAI) -> None:
    whole = await client.completions.create(model="m", prompt="Once upon a time")
    stream = await client.completions.create(model="m", prompt="Once upon a time", stream=True)
    text = "".join([chunk.choices[0].text async for chunk in stream])
    assert text.rstrip() == whole.choices[0].text


async def test_embeddings_depend_on_the_text_alone(client: openai.AsyncOpenAI) -> None:
    answer = await client.embeddings.create(model="m", input=["one", "two", "one"], encoding_format="float")
    one, two, again = (entry.embedding for entry in answer.data)
    assert one == again != two
    assert answer.usage.prompt_tokens == 3


@pytest.mark.parametrize("way", ["header", "field"])
async def test_faults_are_ordered_by_header_or_field(client: openai.AsyncOpenAI, way: str) -> None:
    headers = {HEADER: '{"status": 500}'} if way == "header" else {}
    extra = {"x_pretend": {"status": 500}} if way == "field" else {}
    with pytest.raises(openai.InternalServerError, match="ordered"):
        await client.chat.completions.create(
            model="m",
            messages=HELLO,
            extra_headers=headers,
            extra_body=extra,
        )


async def test_a_knob_that_does_not_exist_is_refused(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="knob"):
        await client.chat.completions.create(
            model="m",
            messages=HELLO,
            extra_body={"x_pretend": {"knob": 1}},
        )


async def test_it_hangs_up_in_the_middle_when_ordered(address: str) -> None:
    order = {"model": "m", "messages": HELLO, "stream": True, "x_pretend": {"cut_after": 2}}
    async with aiohttp.ClientSession() as session:
        with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientConnectionError)):
            async with session.post(f"http://{address}/v1/chat/completions", json=order) as answer:
                await answer.read()


async def test_it_notices_a_client_that_leaves() -> None:
    app = application(Knobs(delay=0.05, tokens=10_000))
    runner = aiohttp.web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/chat/completions"
        answer = await session.post(url, json={"model": "m", "messages": HELLO, "stream": True})
        await answer.content.readany()
        assert len(app[OPEN]) == 1
        answer.close()
        async with asyncio.timeout(2):
            while app[OPEN]:  # noqa: ASYNC110 - the server has no event for us
                await asyncio.sleep(0.01)
    assert len(app[LOG]) == 1
    await runner.cleanup()
