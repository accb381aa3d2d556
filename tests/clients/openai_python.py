#!/usr/bin/env python3
"""The OpenAI API through its official client for Python."""
# requires: openai pydantic
import asyncio
import os
import sys

import openai
from pydantic import BaseModel

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "lib"))
from rig import Server, check, done, refused  # noqa: E402

HI = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
TOOL = {"name": "weather", "description": "Weather of a place",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}},
                       "required": ["city"], "additionalProperties": False}}


class Verdict(BaseModel):
    ok: bool


def chats(c):
    r = c.chat.completions.create(model="tiny", messages=HI, max_tokens=16, temperature=0,
                                  logprobs=True, top_logprobs=3)
    choice = r.choices[0]
    check(choice.message.role == "assistant")
    check(choice.finish_reason in ("stop", "length"))
    check(len(choice.logprobs.content) == r.usage.completion_tokens)
    check(len(choice.logprobs.content[0].top_logprobs) == 3)
    check(r.usage.total_tokens == r.usage.prompt_tokens + r.usage.completion_tokens)
    stream = list(c.chat.completions.create(model="tiny", messages=HI, max_tokens=16, temperature=0,
                                            stream=True, stream_options={"include_usage": True}))
    check(len({x.id for x in stream}) == 1, "one id throughout")
    check(stream[0].choices[0].delta.role == "assistant")
    check(all(x.choices[0].delta.role is None for x in stream[1:-1]), "the role comes once")
    text = "".join(x.choices[0].delta.content or "" for x in stream[:-1])
    check(text == choice.message.content, f"{text!r} {choice.message.content!r}")
    check(stream[-2].choices[0].finish_reason == choice.finish_reason)
    check(stream[-1].choices == [] and stream[-1].usage.completion_tokens == r.usage.completion_tokens)
    check(stream[-1].usage.prompt_tokens_details.cached_tokens > 0, "the second came from the cache")
    n = c.chat.completions.create(model="tiny", messages=HI, max_tokens=8, n=3, seed=7)
    check([x.index for x in n.choices] == [0, 1, 2])
    again = c.chat.completions.create(model="tiny", messages=HI, max_tokens=8, n=3, seed=7)
    check([x.message.content for x in n.choices] == [x.message.content for x in again.choices], "seed")
    r = c.chat.completions.create(model="tiny", messages=HI, max_completion_tokens=4,
                                  reasoning_effort="low", logit_bias={"65": -100}, stop=["zzz"],
                                  extra_body={"top_k": 5, "min_p": 0.01, "chat_template_kwargs": {}})
    check(r.usage.completion_tokens <= 4)


def structured(c):
    r = c.chat.completions.parse(model="tiny", messages=HI, response_format=Verdict, max_tokens=200)
    check(isinstance(r.choices[0].message.parsed, Verdict))
    with c.chat.completions.stream(model="tiny", messages=HI, response_format=Verdict,
                                   max_tokens=200) as s:
        for _ in s:
            pass
        check(isinstance(s.get_final_completion().choices[0].message.parsed, Verdict))
    r = c.chat.completions.create(model="tiny", messages=HI, max_tokens=20,
                                  extra_body={"structured_outputs": {"choice": ["yes", "no"]}})
    check(r.choices[0].message.content in ("yes", "no"))
    with refused(openai.BadRequestError, 400, "uniqueItems"):
        c.chat.completions.create(model="tiny", messages=HI, response_format={
            "type": "json_schema", "json_schema": {"name": "x", "schema": {
                "type": "array", "uniqueItems": True}}})


def completes(c):
    r = c.completions.create(model="tiny", prompt="Once upon", max_tokens=12, temperature=0, logprobs=2,
                             echo=True)
    check(r.choices[0].text.startswith("Once upon"))
    s = "".join(x.choices[0].text for x in c.completions.create(
        model="tiny", prompt="Once upon", max_tokens=12, temperature=0, stream=True, echo=True))
    check(s == r.choices[0].text)
    check(c.completions.create(model="tiny", prompt=[1, 2, 3], max_tokens=2).usage.prompt_tokens == 3)


def responds(c):
    r = c.responses.create(model="tiny", input="Hello", max_output_tokens=12, temperature=0,
                           instructions="Be brief", metadata={"a": "b"})
    check(r.status in ("completed", "incomplete"))
    events = list(c.responses.create(model="tiny", input="Hello", max_output_tokens=12, temperature=0,
                                     instructions="Be brief", stream=True))
    check([e.sequence_number for e in events] == list(range(len(events))))
    check(events[0].type == "response.created" and events[1].type == "response.in_progress")
    check("".join(e.delta for e in events if e.type == "response.output_text.delta") == r.output_text)
    check(events[-1].response.output_text == r.output_text)
    check(events[-1].response.usage.input_tokens_details.cached_tokens > 0)
    check(c.responses.retrieve(r.id).output_text == r.output_text)
    check(c.responses.input_items.list(r.id).data[0].content[0].text == "Hello")
    more = c.responses.create(model="tiny", input="And?", previous_response_id=r.id, max_output_tokens=4)
    check(more.usage.input_tokens > r.usage.input_tokens - 5 and more.previous_response_id == r.id)
    check(c.responses.input_tokens.count(model="tiny", input="Hello").input_tokens > 0)
    c.responses.delete(r.id)
    with refused(openai.NotFoundError, 404):
        c.responses.retrieve(r.id)
    with refused(openai.BadRequestError, 400, "not here"):
        c.responses.create(model="tiny", input="And?", previous_response_id=r.id)
    check(isinstance(c.responses.parse(model="tiny", input="x", text_format=Verdict,
                                       max_output_tokens=200).output_parsed, Verdict))
    with c.responses.stream(model="tiny", input="x", text_format=Verdict, max_output_tokens=200) as s:
        for _ in s:
            pass
        check(isinstance(s.get_final_response().output_parsed, Verdict))


def refuses(c, url):
    with refused(openai.NotFoundError, 404, "does not exist"):
        c.chat.completions.create(model="other", messages=HI)
    with refused(openai.BadRequestError, 400, "messages"):
        c.chat.completions.create(model="tiny", messages=[])
    with refused(openai.BadRequestError, 400, "context"):
        c.completions.create(model="tiny", prompt="word " * 20000, max_tokens=1)
    try:
        c.completions.create(model="tiny", prompt="word " * 20000, max_tokens=1)
    except openai.BadRequestError as e:
        check(e.code == "context_length_exceeded", e.code)
    stranger = openai.OpenAI(base_url=url + "/v1", api_key="wrong", max_retries=0)
    with refused(openai.AuthenticationError, 401):
        stranger.models.list()
    few = openai.OpenAI(base_url=url + "/v1", api_key="few", max_retries=0)
    few.completions.create(model="tiny", prompt="x", max_tokens=1)
    with refused(openai.RateLimitError, 429, "requests a minute"):
        few.completions.create(model="tiny", prompt="x", max_tokens=1)
    with refused(openai.PermissionDeniedError, 403, "scope"):
        openai.OpenAI(base_url=url + "/v1", api_key="board", max_retries=0).completions.create(
            model="tiny", prompt="x")


def cancels(c, server):
    """A stream that is closed frees its place."""
    s = c.chat.completions.create(model="tiny", messages=HI, max_tokens=3000, stream=True,
                                  extra_body={"ignore_eos": True})
    next(iter(s))
    s.close()
    for _ in range(200):
        if server.load_with("full") == 0:
            return
    raise AssertionError("the request runs on")


async def many(url):
    async with openai.AsyncOpenAI(base_url=url + "/v1", api_key="full") as c:
        answers = await asyncio.gather(*[
            c.chat.completions.create(model="tiny", messages=HI, max_tokens=20, temperature=0)
            for _ in range(24)])
    check(len({a.choices[0].message.content for a in answers}) == 1, "alike alone and together")


def main():
    import hashlib
    import tempfile
    with tempfile.NamedTemporaryFile("w", suffix=".keys") as keys:
        for name, options in (("full", "scopes=all"), ("few", "rpm=1"), ("board", "scopes=metrics")):
            keys.write(hashlib.sha256(name.encode()).hexdigest() + f" name={name} {options}\n")
        keys.flush()
        with Server("--api-keys", keys.name) as server:
            import json
            server.load_with = lambda key: json.loads(
                server.ask("/load", headers={"Authorization": "Bearer " + key})[2])["server_load"]
            c = openai.OpenAI(base_url=server.url + "/v1", api_key="full", max_retries=0)
            check([m.id for m in c.models.list()] == ["tiny"])
            check(c.models.retrieve("tiny").object == "model")
            chats(c)
            structured(c)
            completes(c)
            responds(c)
            refuses(c, server.url)
            cancels(c, server)
            asyncio.run(many(server.url))
    done(f"openai {openai.__version__}")


main()
