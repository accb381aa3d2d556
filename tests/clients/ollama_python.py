#!/usr/bin/env python3
"""Ollama's API through its official client for Python."""
# requires: ollama
import importlib.metadata
import os
import sys

import ollama

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "lib"))
from rig import Server, check, done, refused  # noqa: E402

HI = [{"role": "user", "content": "Hello"}]
FEW = {"num_predict": 10, "temperature": 0}


def main():
    with Server() as server:
        c = ollama.Client(host=server.url)
        r = c.chat(model="tiny", messages=HI, options=FEW)
        check(r.done and r.done_reason in ("stop", "length") and r.message.role == "assistant")
        check(r.total_duration >= r.eval_duration > 0 and r.eval_count <= 10, "nanoseconds")
        parts = list(c.chat(model="tiny:latest", messages=HI, options=FEW, stream=True))
        check("".join(p.message.content for p in parts) == r.message.content)
        check(parts[-1].done and not any(p.done for p in parts[:-1]))
        g = c.generate(model="tiny", prompt="Once", options=FEW, raw=True)
        s = "".join(p.response for p in c.generate(model="tiny", prompt="Once", options=FEW, raw=True,
                                                   stream=True))
        check(g.response == s)
        j = c.chat(model="tiny", messages=HI, options={"num_predict": 100}, format={
            "type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"],
            "additionalProperties": False})
        check("".join(j.message.content.split()).startswith('{"ok":'), j.message.content)
        check([m.model for m in c.list().models] == ["tiny"], c.list())
        check(c.ps().models[0].size_vram is not None)
        check(c.show("tiny").details is not None)
        with refused(ollama.ResponseError, 404):
            c.chat(model="other", messages=HI)
        with refused(ollama.ResponseError, 400, "num_ctx"):
            c.chat(model="tiny", messages=HI, options={"num_ctx": 10000000})
    done(f"ollama {importlib.metadata.version('ollama')}")


main()
