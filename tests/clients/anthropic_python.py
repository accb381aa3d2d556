#!/usr/bin/env python3
"""The Anthropic API through its official client for Python."""
# requires: anthropic
import json
import os
import sys

import anthropic

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "lib"))
from rig import Server, check, done, refused  # noqa: E402

HI = [{"role": "user", "content": "Hello"}]


def main():
    with Server("--api-key", "k", "--alias", "assistant") as server:
        c = anthropic.Anthropic(base_url=server.url, api_key="k", max_retries=0)
        r = c.messages.create(model="tiny", max_tokens=12, system="Be brief.", messages=HI,
                              extra_body={"temperature": 0})
        check(r.role == "assistant" and r.type == "message" and r.stop_reason in ("end_turn", "max_tokens"))
        text = "".join(b.text for b in r.content if b.type == "text")
        with c.messages.stream(model="assistant", max_tokens=12,
                               extra_body={"temperature": 0},
                               system=[{"type": "text", "text": "Be brief."}], messages=HI) as s:
            streamed = "".join(s.text_stream)
            final = s.get_final_message()
        check(streamed == text and final.stop_reason == r.stop_reason)
        check(final.usage.output_tokens == r.usage.output_tokens)
        check(final.usage.cache_read_input_tokens > 0, "the second came from the cache")
        kinds = [e.type for e in c.messages.create(model="tiny", max_tokens=6, messages=HI, stream=True)]
        kinds = [k for k in kinds if k != "ping"]
        check(kinds[0] == "message_start" and kinds[-1] == "message_stop" and kinds[-2] == "message_delta")
        n = c.messages.count_tokens(model="tiny", system="Be brief.", messages=HI).input_tokens
        check(n == r.usage.input_tokens + r.usage.cache_read_input_tokens, f"{n} {r.usage}")
        r = c.messages.create(model="tiny", max_tokens=30, messages=[
            {"role": "user", "content": [{"type": "text", "text": "a"}]},
            {"role": "assistant", "content": [
                {"type": "text", "text": "b"},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Rome"}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "sunny"}]}],
            tools=[{"name": "weather", "description": "d", "input_schema": {"type": "object"}}])
        check(r.usage.output_tokens <= 30)
        r = c.messages.create(model="tiny", max_tokens=200, messages=HI, output_config={"format": {
            "type": "json_schema", "schema": {"type": "object", "properties": {"ok": {"type": "boolean"}},
                                              "required": ["ok"], "additionalProperties": False}}})
        check(isinstance(json.loads(r.content[-1].text)["ok"], bool))
        with refused(anthropic.NotFoundError, 404):
            c.messages.create(model="other", max_tokens=1, messages=HI)
        with refused(anthropic.BadRequestError, 400, "messages"):
            c.messages.create(model="tiny", max_tokens=1, messages=[])
        with refused(anthropic.BadRequestError, 400, "context"):
            c.messages.create(model="tiny", max_tokens=1,
                              messages=[{"role": "user", "content": "word " * 20000}])
        with refused(anthropic.AuthenticationError, 401):
            anthropic.Anthropic(base_url=server.url, api_key="wrong", max_retries=0).messages.create(
                model="tiny", max_tokens=1, messages=HI)
        # The mark that coding assistants change in every request must not empty the cache.
        for mark in ("cch=1;", "cch=2;"):
            r = c.messages.create(model="tiny", max_tokens=1, messages=HI, system=[
                {"type": "text", "text": "x-anthropic-billing-header: " + mark + "\n" + "rule " * 100}])
        check(r.usage.cache_read_input_tokens > 50, r.usage)
    done(f"anthropic {anthropic.__version__}")


main()
