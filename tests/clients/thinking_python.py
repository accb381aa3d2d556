#!/usr/bin/env python3
"""Thinking, embeddings and the less usual uses of each API through the official clients for Python."""
# requires: openai anthropic ollama pydantic
import json
import os
import sys

import anthropic
import ollama
import openai
from pydantic import BaseModel

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "lib"))
from rig import HERE, PILOT, Server, check, done, refused  # noqa: E402

HI = [{"role": "user", "content": "Hello"}]
BUDGET = 6                  # a model of random weights ends its thoughts when it must
SCHEMA = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"],
          "additionalProperties": False}


class Verdict(BaseModel):
    ok: bool


# ---- thinking ----

def chats(c):
    q = {"model": "tiny", "messages": HI, "max_tokens": 24, "temperature": 0,
         "extra_body": {"thinking_token_budget": BUDGET, "ignore_eos": True}}
    r = c.chat.completions.create(**q)
    m = r.choices[0].message
    check(m.reasoning_content and m.reasoning == m.reasoning_content and m.content is not None, m)
    check("think>" not in m.content + m.reasoning_content)
    n = r.usage.completion_tokens_details.reasoning_tokens
    check(n == BUDGET, n)
    reasoning, text, seen_text = "", "", False
    for part in c.chat.completions.create(**q, stream=True):
        delta = part.choices[0].delta
        if getattr(delta, "reasoning_content", None):
            check(not seen_text, "reasoning comes first")
            reasoning += delta.reasoning_content
        text += delta.content or ""
        seen_text |= bool(delta.content)
    check((reasoning, text) == (m.reasoning_content, m.content))
    for off in ({"reasoning_effort": "none"}, {"extra_body": {"chat_template_kwargs": {"enable_thinking": False}}}):
        r = c.chat.completions.create(model="tiny", messages=HI, max_tokens=8, **off)
        check(not getattr(r.choices[0].message, "reasoning_content", None), r)
        check(r.usage.completion_tokens_details.reasoning_tokens == 0)
    q["max_tokens"] = 200
    parsed = c.chat.completions.parse(**{**q, "extra_body": {"thinking_token_budget": BUDGET}}, response_format=Verdict)
    check(isinstance(parsed.choices[0].message.parsed, Verdict), "a schema behind the thoughts")
    check(parsed.choices[0].message.reasoning_content)
    turn = HI + [m.model_dump(exclude_none=True), {"role": "user", "content": "And?"}]
    more = c.chat.completions.create(model="tiny", messages=turn, max_tokens=4)
    check(more.usage.prompt_tokens > r.usage.prompt_tokens + n, "what was thought goes back")


def responds(c):
    q = {"model": "tiny", "input": "Hello", "max_output_tokens": 24, "temperature": 0,
         "reasoning": {"effort": "low", "summary": "auto"},
         "extra_body": {"thinking_token_budget": BUDGET, "ignore_eos": True}}
    r = c.responses.create(**q)
    check([i.type for i in r.output] == ["reasoning", "message"], r.output)
    thought = r.output[0].summary[0].text
    check(thought and r.usage.output_tokens_details.reasoning_tokens == BUDGET)
    deltas, kinds = "", []
    for e in c.responses.create(**q, stream=True):
        kinds.append(e.type)
        if e.type == "response.reasoning_summary_text.delta":
            deltas += e.delta
        last = e
    check(deltas == thought, (deltas, thought))
    check(last.response.output_text == r.output_text)
    check(kinds.index("response.reasoning_summary_text.done") < kinds.index("response.output_text.delta"))
    del q["reasoning"]["summary"]
    r = c.responses.create(**q)
    check(r.output[0].content[0].text == thought and not r.output[0].summary)
    more = c.responses.create(model="tiny", input="And?", previous_response_id=r.id, max_output_tokens=20,
                              reasoning={"effort": "none"})
    check(more.output[0].type == "message", more.output)


def messages(c):
    q = {"model": "tiny", "max_tokens": 24, "messages": HI,
         "thinking": {"type": "enabled", "budget_tokens": BUDGET},
         "extra_body": {"temperature": 0, "ignore_eos": True}}
    r = c.messages.create(**q)
    check([b.type for b in r.content] == ["thinking", "text"], r.content)
    check(r.content[0].thinking and isinstance(r.content[0].signature, str))
    with c.messages.stream(**q) as s:
        kinds = [(e.type, getattr(getattr(e, "delta", None), "type", None)) for e in s]
        final = s.get_final_message()
    check([b.model_dump(exclude={"parsed_output"}) for b in final.content] ==
          [b.model_dump(exclude={"parsed_output"}) for b in r.content], (final, r))
    check(("content_block_delta", "thinking_delta") in kinds and ("content_block_delta", "signature_delta") in kinds)
    check(kinds.index(("content_block_delta", "signature_delta")) < kinds.index(("content_block_delta", "text_delta")))
    off = c.messages.create(model="tiny", max_tokens=8, messages=HI, thinking={"type": "disabled"})
    check(all(b.type == "text" for b in off.content), off)
    turn = HI + [{"role": "assistant", "content": r.content}, {"role": "user", "content": "And?"}]
    check(c.messages.create(**{**q, "messages": turn}).usage.input_tokens > 0, "blocks go back as they came")
    check(c.messages.count_tokens(model="tiny", messages=turn).input_tokens >
          c.messages.count_tokens(model="tiny", messages=HI).input_tokens + BUDGET)


def ollamas(c):
    few = {"num_predict": 24, "temperature": 0, "thinking_token_budget": BUDGET, "ignore_eos": True}
    q = {"model": "tiny", "options": few}
    r = c.chat(messages=HI, think=True, **q)
    check(r.message.thinking and r.message.content is not None)
    parts = list(c.chat(messages=HI, think=True, stream=True, **q))
    check("".join(p.message.thinking or "" for p in parts) == r.message.thinking)
    check("".join(p.message.content or "" for p in parts) == r.message.content)
    check(not c.chat(messages=HI, think=False, **q).message.thinking)
    check(c.chat(messages=HI, think="high", **q).message.thinking)
    check(c.generate(prompt="Hello", think=True, **q).thinking)


# ---- embeddings ----

def embeds(c, o):
    texts = ["a text", "another one", ""][:2]
    floats = c.embeddings.create(model="tiny", input=texts, encoding_format="float")
    check([d.index for d in floats.data] == [0, 1] and floats.usage.prompt_tokens == floats.usage.total_tokens)
    given = c.embeddings.create(model="tiny", input=texts)      # the client asks for base64 and decodes it
    for a, b in zip(floats.data, given.data):
        check(max(abs(x - y) for x, y in zip(a.embedding, b.embedding)) < 1e-6)
    check(abs(sum(x * x for x in floats.data[0].embedding) - 1) < 1e-4, "of length 1")
    few = c.embeddings.create(model="tiny", input=[1, 2, 3], dimensions=8, encoding_format="float").data[0].embedding
    check(len(few) == 8 and abs(sum(x * x for x in few) - 1) < 1e-4)
    check(len(c.embeddings.create(model="tiny", input=[[1, 2], [3]]).data) == 2)
    theirs = o.embed(model="tiny", input=texts)
    for a, b in zip(floats.data, theirs.embeddings):
        check(max(abs(x - y) for x, y in zip(a.embedding, b)) < 1e-5, "the same by Ollama's API")
    check(len(o.embeddings(model="tiny", prompt="a text").embedding) == len(floats.data[0].embedding))
    with refused(openai.BadRequestError, 400, "input"):
        c.embeddings.create(model="tiny", input=[])
    with refused(openai.BadRequestError, 400, "dimensions"):
        c.embeddings.create(model="tiny", input="x", dimensions=10 ** 6)


# ---- less usual ----

def openai_uses(c):
    # several prompts of a completion, with usage of a stream of several choices
    q = {"model": "pilot", "prompt": ["Once", "Twice", [70, 71]], "max_tokens": 6, "n": 2, "temperature": 0,
         "extra_body": {"ignore_eos": True}}
    r = c.completions.create(**q)
    check([x.index for x in r.choices] == list(range(6)) and r.usage.completion_tokens == 36)
    texts = [""] * 6
    for part in c.completions.create(**q, stream=True, stream_options={"include_usage": True}):
        for x in part.choices:
            texts[x.index] += x.text
        check(bool(part.choices) == (part.usage is None))
        last = part
    check(texts == [x.text for x in r.choices] and last.usage.completion_tokens == 36)
    # a stop string that ends within a token: nothing of it is shown, every token has its entry
    q = {"model": "pilot", "messages": HI, "max_tokens": 40, "temperature": 0, "logprobs": True, "top_logprobs": 2,
         "reasoning_effort": "none"}
    whole = c.chat.completions.create(**q, extra_body={"ignore_eos": True}).choices[0]
    tokens = [t.token for t in whole.logprobs.content]
    at = next(i for i in range(2, len(tokens)) if len(tokens[i]) > 1 and "\ufffd" not in tokens[i - 1] + tokens[i])
    stop = tokens[at - 1][-1:] + tokens[at][:1]
    cut = c.chat.completions.create(**q, stop=stop).choices[0]
    check(stop not in cut.message.content and whole.message.content.startswith(cut.message.content))
    check(cut.finish_reason == "stop")
    check([t.token for t in cut.logprobs.content] == tokens[:len(cut.logprobs.content)])
    streamed = list(c.chat.completions.create(**q, stop=stop, stream=True))
    check("".join(x.choices[0].delta.content or "" for x in streamed) == cut.message.content)
    entries = [t.token for x in streamed if x.choices[0].logprobs for t in x.choices[0].logprobs.content]
    check(entries == [t.token for t in cut.logprobs.content])
    # what evaluations ask
    r = c.completions.create(model="pilot", prompt="Once upon a time", max_tokens=1, echo=True, logprobs=1, temperature=0)
    l = r.choices[0].logprobs
    check(len(l.tokens) == len(l.token_logprobs) == len(l.top_logprobs) == len(l.text_offset) ==
          r.usage.prompt_tokens + 1 and l.token_logprobs[0] is None)
    check(all(r.choices[0].text[o:].startswith(t) for o, t in zip(l.text_offset, l.tokens)), l)
    # any object
    r = c.chat.completions.create(model="pilot", messages=HI, response_format={"type": "json_object"}, max_tokens=60,
                                  reasoning_effort="none")
    check(r.choices[0].finish_reason == "length" or isinstance(json.loads(r.choices[0].message.content), dict))
    r = c.responses.create(model="pilot", input="x", text={"format": {"type": "json_object"}}, max_output_tokens=60,
                           reasoning={"effort": "none"})
    check(r.status == "incomplete" or isinstance(json.loads(r.output_text), dict))
    with refused(openai.BadRequestError, 400, "suffix"):
        c.completions.create(model="pilot", prompt="x", suffix="y")
    with refused(openai.BadRequestError, 400, "image_url"):
        c.chat.completions.create(model="pilot", messages=[{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "data:,"}}]}])


def anthropic_uses(c):
    """The model that ships, which says the same every time."""
    q = {"model": "pilot", "max_tokens": 40, "extra_body": {"temperature": 0}}
    r = c.messages.create(messages=HI, **q)
    check(r.stop_reason == "end_turn" and r.stop_sequence is None, r)
    text = r.content[0].text
    cut = c.messages.create(messages=HI, stop_sequences=["never", text[5:7]], **q)
    check((cut.stop_reason, cut.stop_sequence, cut.content[0].text) == ("stop_sequence", text[5:7], text[:5]), cut)
    with c.messages.stream(messages=HI, stop_sequences=[text[5:7]], **q) as s:
        check("".join(s.text_stream) == text[:5] and s.get_final_message().stop_sequence == text[5:7])
    check(c.messages.create(messages=HI, **{**q, "max_tokens": 2}).stop_reason == "max_tokens")
    begun = c.messages.create(messages=HI + [{"role": "assistant", "content": text[:8]}], **q)
    check(text[:8] + begun.content[0].text == text, (text, begun))
    cached = {"type": "ephemeral"}
    a = c.messages.create(messages=[{"role": "user", "content": [{"type": "text", "text": "Hello", "cache_control": cached}]}],
                          system=[{"type": "text", "text": "Be brief.", "cache_control": cached}], metadata={"user_id": "u"}, **q)
    b = c.messages.create(messages=HI, system="Be brief.", **q)
    check(a.content[0].text == b.content[0].text, "blocks and strings are the same")
    tool = {"name": "search", "description": "d", "input_schema": {"type": "object", "properties": {
        "query": {"type": "string"}}}, "cache_control": cached}
    turn = HI + [{"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "search", "input": {"query": "x"}}]},
                 {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "is_error": True,
                                               "content": [{"type": "text", "text": "no connection"}]},
                                              {"type": "text", "text": "What now?"}]}]
    check(c.messages.create(messages=turn, tools=[tool], **q).usage.input_tokens > 20)
    for bad, about in (({"messages": [{"role": "user", "content": [{"type": "image", "source": {
            "type": "base64", "media_type": "image/png", "data": ""}}]}]}, "image"),
                       ({"messages": HI, "tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search")):
        with refused(anthropic.BadRequestError, 400, about):
            c.messages.create(**bad, **q)


def ollama_uses(c):
    few = {"num_predict": 60, "temperature": 0}
    r = c.chat(model="pilot", messages=HI, format="json", options=few)
    check(r.done_reason == "length" or isinstance(json.loads(r.message.content), dict), r)
    r = c.generate(model="pilot", prompt="x", format=SCHEMA, options=few)
    check(isinstance(json.loads(r.response)["ok"], bool), r)
    raw = c.generate(model="pilot", prompt="Hello", raw=True, options=few)
    check(raw.response != c.generate(model="pilot", prompt="Hello", options=few).response, "raw has no template")
    check(raw.prompt_eval_count < 5)
    with refused(ollama.ResponseError, 400, "images"):
        c.chat(model="pilot", messages=[{**HI[0], "images": ["aGk="]}])
    with refused(ollama.ResponseError, 400, "images"):
        c.generate(model="pilot", prompt="x", images=["aGk="])
    with refused(ollama.ResponseError, 400, "template"):
        c.generate(model="pilot", prompt="x", template="{{ .Prompt }}")
    check([m.model for m in c.ps().models] == ["pilot"])
    r = c.generate(model="pilot", keep_alive=0)
    check(r.done and r.done_reason == "unload")
    check(c.ps().models == [], "it left at once")
    r = c.chat(model="pilot", keep_alive="5m")
    check(r.done_reason == "load" and len(c.ps().models) == 1)
    check(c.ps().models[0].expires_at is not None and c.ps().models[0].context_length > 0)


def main():
    with Server("--template", os.path.join(HERE, "thinking.jinja"), tools=False) as server:
        c = openai.OpenAI(base_url=server.url + "/v1", api_key="k", max_retries=0)
        chats(c)
        responds(c)
        messages(anthropic.Anthropic(base_url=server.url, api_key="k", max_retries=0))
        o = ollama.Client(host=server.url)
        ollamas(o)
        embeds(c, o)
    with Server(model=PILOT, name="pilot") as server:
        openai_uses(openai.OpenAI(base_url=server.url + "/v1", api_key="k", max_retries=0))
        anthropic_uses(anthropic.Anthropic(base_url=server.url, api_key="k", max_retries=0))
        ollama_uses(ollama.Client(host=server.url))
    done("thinking, embeddings and less usual uses by openai, anthropic, ollama")


main()
