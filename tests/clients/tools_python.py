#!/usr/bin/env python3
"""Calls of functions through the official clients for Python, by the model that ships: it has learned to."""
# requires: openai anthropic ollama pydantic
import json
import os
import sys

import anthropic
import ollama
import openai
from pydantic import BaseModel

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "lib"))
from rig import PILOT, Server, check, done, refused  # noqa: E402

SUM = "Can you tell me what 8380 minus 896 is?"
TEXT = "8380 - 896"                     # what the calculator is to be asked


def schema(field):
    return {"type": "object", "properties": {field: {"type": "string"}}, "required": [field]}


FUNCTIONS = [("calculator", "Evaluates an arithmetic expression.", "expression"),
             ("search", "Searches for texts about something.", "query")]
CHAT_TOOLS = [{"type": "function", "function": {"name": n, "description": d, "parameters": schema(f)}}
              for n, d, f in FUNCTIONS]
RESPONSE_TOOLS = [{"type": "function", "name": n, "description": d, "parameters": schema(f), "strict": False}
                  for n, d, f in FUNCTIONS]
ANTHROPIC_TOOLS = [{"name": n, "description": d, "input_schema": schema(f)} for n, d, f in FUNCTIONS]
NAMES = {"calculator", "search"}


class calculator(BaseModel):
    """Evaluates an arithmetic expression."""
    expression: str


def user(text):
    return [{"role": "user", "content": text}]


# ---- chat completions ----

def pieces(stream):
    """A stream's calls put together by index, as clients do; and the reason."""
    calls, reason, text = {}, None, ""
    for part in stream:
        delta = part.choices[0].delta
        text += delta.content or ""
        reason = part.choices[0].finish_reason or reason
        for t in delta.tool_calls or []:
            if t.index not in calls:
                check(t.id and t.type == "function" and t.function.name, "a call begins whole")
                check(t.index == len(calls), "calls come in order")
                calls[t.index] = [t.function.name, "", t.id]
            else:
                check(t.id is None and t.function.name is None, "id and name come once")
            calls[t.index][1] += t.function.arguments or ""
    check(len({c[2] for c in calls.values()}) == len(calls), "ids differ")
    return text, [(c[0], c[1]) for _, c in sorted(calls.items())], reason


def chat(c, text, **more):
    """Asks whole and as a stream, which must say the same."""
    q = {"model": "pilot", "messages": text if isinstance(text, list) else user(text), "tools": CHAT_TOOLS,
         "temperature": 0, "max_tokens": 120, **more}
    choice = c.chat.completions.create(**q).choices[0]
    m = choice.message
    calls = [(t.function.name, t.function.arguments) for t in m.tool_calls or []]
    streamed = pieces(c.chat.completions.create(**q, stream=True))
    check(streamed == (m.content or "", calls, choice.finish_reason), f"{streamed} {choice}")
    check(not calls or m.content is None, m.content)
    check((choice.finish_reason == "tool_calls") == bool(calls) or choice.finish_reason == "length", choice)
    return choice


def chats(c, eos):
    first = chat(c, SUM)
    call = first.message.tool_calls[0]
    check(call.function.name == "calculator" and json.loads(call.function.arguments) == {"expression": TEXT}, call)
    check(chat(c, "Please look up the mill in Rosby.").message.tool_calls[0].function.name == "search")
    check(not chat(c, "Hello").message.tool_calls, "auto may say something")
    check(chat(c, "Hello", tool_choice="required").message.tool_calls[0].function.name in NAMES)
    for name in NAMES:
        m = chat(c, SUM, tool_choice={"type": "function", "function": {"name": name}}).message
        check([t.function.name for t in m.tool_calls] == [name])
    m = chat(c, SUM, tool_choice={"type": "allowed_tools", "allowed_tools": {
        "mode": "required", "tools": [{"type": "function", "function": {"name": "search"}}]}}).message
    check({t.function.name for t in m.tool_calls} == {"search"})
    check(not chat(c, SUM, tool_choice="none").message.tool_calls)
    several = {"logit_bias": {str(eos): -100}, "max_tokens": 200}   # it never comes to its end by itself
    calls = chat(c, SUM, **several).message.tool_calls
    check(len(calls) > 1 and len({t.id for t in calls}) == len(calls), "parallel calls")
    alone = chat(c, SUM, **several, parallel_tool_calls=False).message.tool_calls
    check(len(alone) == 1 and json.loads(alone[0].function.arguments), "one call when asked for one")
    cut = chat(c, SUM, max_tokens=12)
    check(cut.finish_reason == "length", cut)
    # the result goes back, and is answered
    turn = user(SUM) + [first.message.model_dump(exclude_none=True),
                        {"role": "tool", "tool_call_id": call.id, "content": "7484"}]
    check("7484" in chat(c, turn).message.content)
    turn[1] = {"role": "assistant", "content": "", "tool_calls": turn[1]["tool_calls"]}
    turn[2]["content"] = [{"type": "text", "text": "7484"}]
    check("7484" in chat(c, turn).message.content, "in parts, too")


def chat_helpers(c):
    """What the client makes of it: typed arguments, events."""
    q = {"model": "pilot", "messages": user(SUM), "temperature": 0, "max_tokens": 120}
    tool = openai.pydantic_function_tool(calculator)
    r = c.chat.completions.parse(**q, tools=[tool])
    check(r.choices[0].message.tool_calls[0].function.parsed_arguments.expression == TEXT, r)
    with c.chat.completions.stream(**q, tools=[tool]) as s:
        kinds = [e.type for e in s]
        final = s.get_final_completion()
    check("tool_calls.function.arguments.delta" in kinds and "tool_calls.function.arguments.done" in kinds)
    check(final.choices[0].message.tool_calls[0].function.parsed_arguments.expression == TEXT)
    logs = c.chat.completions.create(**q, tools=CHAT_TOOLS, logprobs=True, top_logprobs=2)
    n = len(logs.choices[0].logprobs.content)
    check(n + 1 == logs.usage.completion_tokens, "of all but the end token")
    two = c.chat.completions.create(**q, tools=CHAT_TOOLS, n=2)
    check([x.message.tool_calls[0].function.name for x in two.choices] == ["calculator"] * 2)


def chat_refusals(c):
    def bad(about, **more):
        with refused(openai.BadRequestError, 400, about):
            c.chat.completions.create(model="pilot", messages=user(SUM), **more)
        with refused(openai.BadRequestError, 400, about):
            c.chat.completions.create(model="pilot", messages=user(SUM), stream=True, **more)

    bad("tool_choice", tools=CHAT_TOOLS, tool_choice={"type": "function", "function": {"name": "other"}})
    bad("tool_choice", tools=CHAT_TOOLS, tool_choice="sometimes")
    bad("tool_choice", tool_choice="required")
    bad("name", tools=[{"type": "function", "function": {"description": "nameless"}}])
    bad("type", tools=[{"type": "plumber"}])
    bad("uniqueItems", tool_choice="required", tools=[{"type": "function", "function": {
        "name": "f", "strict": True, "parameters": {"type": "object", "properties": {
            "a": {"type": "array", "uniqueItems": True}}}}}])
    bad("functions", extra_body={"functions": [{"name": "f"}]})


# ---- responses ----

def respond(c, text, **more):
    q = {"model": "pilot", "input": text, "tools": RESPONSE_TOOLS, "temperature": 0, "max_output_tokens": 120,
         **more}
    r = c.responses.create(**q)
    items, args = {}, {}
    for e in c.responses.create(**q, stream=True):
        if e.type == "response.output_item.added" and e.item.type == "function_call":
            check(e.item.name in NAMES and e.item.call_id and e.item.status == "in_progress", e)
            items[e.output_index], args[e.output_index] = e.item, ""
        elif e.type == "response.function_call_arguments.delta":
            check(e.item_id == items[e.output_index].id)
            args[e.output_index] += e.delta
        elif e.type == "response.function_call_arguments.done":
            check(e.arguments == args[e.output_index] and e.item_id == items[e.output_index].id)
        elif e.type == "response.output_item.done" and e.item.type == "function_call":
            check(e.item.arguments == args[e.output_index] and e.item.call_id == items[e.output_index].call_id)
        last = e
    check(last.type in ("response.completed", "response.incomplete"), last.type)
    calls = [i for i in r.output if i.type == "function_call"]
    check([(i.name, i.arguments) for i in calls] ==
          [(i.name, i.arguments) for i in last.response.output if i.type == "function_call"])
    check([i.arguments for i in calls] == list(args.values()))
    return r


def responds(c):
    r = respond(c, SUM)
    call = r.output[0]
    check(call.type == "function_call" and call.name == "calculator", r.output)
    check(json.loads(call.arguments) == {"expression": TEXT} and r.status == "completed")
    check(r.tools[0].name == "calculator" and r.tool_choice == "auto", "what was asked is told again")
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "7484"}
    more = respond(c, [result], previous_response_id=r.id)
    check("7484" in more.output_text, more.output)
    whole = respond(c, [{"role": "user", "content": SUM}, call.model_dump(exclude_none=True), result])
    check(whole.output_text == more.output_text, "by id and in full: the same")
    check(respond(c, "Hello").output_text != "")
    check(respond(c, "Hello", tool_choice="required").output[0].type == "function_call")
    check(respond(c, SUM, tool_choice={"type": "function", "name": "search"}).output[0].name == "search")
    check(respond(c, SUM, tool_choice="none").output[0].type == "message")
    check(respond(c, SUM, tool_choice={"type": "allowed_tools", "mode": "required", "tools": [
        {"type": "function", "name": "search"}]}).output[0].name == "search")
    parsed = c.responses.parse(model="pilot", input=SUM, tools=[openai.pydantic_function_tool(calculator)],
                               temperature=0, max_output_tokens=120)
    check(parsed.output[0].parsed_arguments.expression == TEXT)
    for bad, about in (({"tools": [{"type": "web_search"}]}, "web_search"),
                       ({"tools": RESPONSE_TOOLS, "tool_choice": {"type": "function", "name": "no"}}, "tool_choice")):
        with refused(openai.BadRequestError, 400, about):
            c.responses.create(model="pilot", input=SUM, **bad)


# ---- Anthropic ----

def message(c, text, **more):
    q = {"model": "pilot", "messages": text if isinstance(text, list) else user(text),
         "tools": ANTHROPIC_TOOLS, "max_tokens": 120, "extra_body": {"temperature": 0}, **more}
    r = c.messages.create(**q)
    with c.messages.stream(**q) as s:
        events = list(s)
        final = s.get_final_message()
    blocks, whole = ([b.model_dump(exclude={"id", "parsed_output"}) for b in m.content] for m in (final, r))
    cut = r.stop_reason == "max_tokens"     # a call that is cut has no object of arguments
    check(blocks == whole or (cut and blocks[:-1] == whole), f"{final} {r}")
    check(final.stop_reason == r.stop_reason and final.usage.output_tokens == r.usage.output_tokens)
    parts = [e for e in events if e.type == "input_json"]
    calls = [b for b in final.content if b.type == "tool_use"]
    check(cut or not calls or parts[-1].snapshot == calls[-1].input, parts[-3:])
    check(cut or (r.stop_reason == "tool_use") == bool(calls), r)
    return r


def anthropics(c, eos):
    r = message(c, SUM)
    call = r.content[-1]
    check(call.type == "tool_use" and call.name == "calculator" and call.input == {"expression": TEXT}, r)
    for content in ("7484", [{"type": "text", "text": "7484"}]):
        turn = user(SUM) + [{"role": "assistant", "content": r.content}, {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": call.id, "content": content}]}]
        check("7484" in message(c, turn).content[0].text)
    check(message(c, "Hello").content[0].type == "text")
    check(message(c, SUM, tool_choice={"type": "any"}).content[-1].name in NAMES)
    check(message(c, SUM, tool_choice={"type": "tool", "name": "search"}).content[-1].name == "search")
    check(message(c, SUM, tool_choice={"type": "none"}).content[-1].type == "text")
    several = {"max_tokens": 200, "extra_body": {"temperature": 0, "logit_bias": {str(eos): -100}}}
    check(sum(b.type == "tool_use" for b in message(c, SUM, **several).content) > 1)
    one = message(c, SUM, **several, tool_choice={"type": "auto", "disable_parallel_tool_use": True})
    check(sum(b.type == "tool_use" for b in one.content) == 1)
    with refused(anthropic.BadRequestError, 400, "tool_choice"):
        c.messages.create(model="pilot", max_tokens=9, messages=user(SUM), tools=ANTHROPIC_TOOLS,
                          tool_choice={"type": "tool", "name": "other"})
    with refused(anthropic.BadRequestError, 400, "name"):
        c.messages.create(model="pilot", max_tokens=9, messages=user(SUM), tools=[{"input_schema": {}}])
    try:
        c.messages.create(model="pilot", max_tokens=9, messages=user(SUM), tools=ANTHROPIC_TOOLS,
                          tool_choice={"type": "tool", "name": "other"})
    except anthropic.BadRequestError as e:
        check(e.body["type"] == "error" and e.body["error"]["type"] == "invalid_request_error", e.body)
    n = c.messages.count_tokens(model="pilot", messages=user(SUM), tools=ANTHROPIC_TOOLS).input_tokens
    check(n > c.messages.count_tokens(model="pilot", messages=user(SUM)).input_tokens, "tools count")


def runner(c):
    """The client's own loop: it calls the function and sends the result back."""
    asked = []

    @anthropic.beta_tool
    def calculator(expression: str) -> str:
        """Evaluates an arithmetic expression.

        Args:
            expression: what to evaluate
        """
        asked.append(expression)
        return "7484"

    last = c.beta.messages.tool_runner(model="pilot", max_tokens=120, tools=[calculator], messages=user(SUM),
                                       extra_body={"temperature": 0}).until_done()
    check(asked == [TEXT] and "7484" in last.content[0].text, f"{asked} {last}")


# ---- Ollama ----

def ollamas(c):
    def calculator(expression: str) -> str:
        """
        Evaluates an arithmetic expression.

        Args:
          expression: what to evaluate
        """
        return expression

    q = {"model": "pilot", "options": {"num_predict": 120, "temperature": 0, "repeat_penalty": 1.0}}
    for tools in ([calculator], CHAT_TOOLS):
        r = c.chat(messages=user(SUM), tools=tools, **q)
        call = r.message.tool_calls[0].function
        check(call.name == "calculator" and call.arguments == {"expression": TEXT}, call)
        parts = list(c.chat(messages=user(SUM), tools=tools, stream=True, **q))
        streamed = [t.function for p in parts for t in p.message.tool_calls or []]
        check(streamed == [call] and parts[-1].done and parts[-1].done_reason == r.done_reason, parts)
    turn = user(SUM) + [r.message, {"role": "tool", "tool_name": "calculator", "content": "7484"}]
    check("7484" in c.chat(messages=turn, tools=CHAT_TOOLS, **q).message.content)
    check(not c.chat(messages=user("Hello"), tools=CHAT_TOOLS, **q).message.tool_calls)
    with refused(ollama.ResponseError, 400, "name"):
        c.chat(messages=user(SUM), tools=[{"type": "function", "function": {}}], **q)


def main():
    with Server(model=PILOT, name="pilot") as server:
        eos = json.loads(server.ask("/tokenize", {"content": "<|im_end|>"})[2])["tokens"][0]
        c = openai.OpenAI(base_url=server.url + "/v1", api_key="k", max_retries=0)
        chats(c, eos)
        chat_helpers(c)
        chat_refusals(c)
        responds(c)
        c = anthropic.Anthropic(base_url=server.url, api_key="k", max_retries=0)
        anthropics(c, eos)
        runner(c)
        ollamas(ollama.Client(host=server.url))
    done("calls of functions by openai, anthropic, ollama")


main()
