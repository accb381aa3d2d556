#!/usr/bin/env python3
"""Models fetched, shown, named again and removed through Ollama's client, from a hub on this machine."""
# requires: ollama
import json
import os
import sys
import tempfile
import time

import ollama

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "lib"))
from hub import Hub  # noqa: E402
from rig import PILOT, Server, check, done, refused  # noqa: E402

HI = [{"role": "user", "content": "Hello"}]
FEW = {"num_predict": 16, "temperature": 0}
NAME = "org/pilot:BF16"


def names(c):
    return {m.model for m in c.list().models}


def fetched(c, hub):
    """Lines of progress as they come; then it is there."""
    hub.slow = 0.05
    seen, last, began = [], 0, time.monotonic()
    for p in c.pull("org/pilot", stream=True):
        seen.append(p.status)
        if p.completed is not None:
            check(p.total > 0 and last <= p.completed <= p.total, p)
            last = p.completed
    hub.slow = 0.0
    check(seen[0] == "pulling manifest" and seen[-1] == "success", seen)
    check(sum(s.startswith("pulling pilot") for s in seen) > 3, f"{seen} in {time.monotonic() - began:.1f} s")
    check(NAME in names(c), names(c))
    before = hub.bytes_sent
    check(c.pull("org/pilot").status == "success")
    check(hub.bytes_sent - before < 100000, "what is there isn't fetched again")


def used(c):
    m = next(m for m in c.list().models if m.model == NAME)
    check(m.size == os.path.getsize(PILOT) and len(m.digest) == 64 and m.modified_at, m)
    check(m.details.format == "gguf" and m.details.quantization_level == "BF16", m)
    check(NAME not in {m.model for m in c.ps().models}, "nobody has asked it")
    shown = c.show(NAME)
    check(shown.modelinfo["general.architecture"] == "qwen3" and shown.modelinfo["qwen3.context_length"] == 384)
    check({"completion", "tools"} <= set(shown.capabilities), shown.capabilities)
    check("<|im_start|>" in shown.template and shown.details.family == "qwen3")
    text = c.chat(NAME, HI, options=FEW).message.content
    check(text != "" and NAME in {m.model for m in c.ps().models}, c.ps())
    at = next(m for m in c.ps().models if m.model == NAME)
    check(at.expires_at and at.context_length == 4096 and at.size > 0, at)
    check(c.copy(NAME, "mine").status == "success" and c.chat("mine", HI, options=FEW).message.content == text)
    made = list(c.create("ours", from_=NAME, stream=True))
    check(made[-1].status == "success" and c.chat("ours", HI, options=FEW).message.content == text)
    with refused(ollama.ResponseError, 400, "system"):
        c.create("theirs", from_=NAME, system="You are a pirate.")
    with refused(ollama.ResponseError, 404):
        c.create("theirs", from_="org/none:Q8_0")
    check(len(c.embed(NAME, "a text").embeddings[0]) == 128, "a decoder embeds")
    c.generate(NAME, keep_alive=0)
    for _ in range(100):
        if NAME not in {m.model for m in c.ps().models}:
            break
        time.sleep(0.05)
    check(c.chat("mine", HI, options=FEW).message.content == text, "loaded again")


def removed(c, server):
    for name in ("mine", "ours"):
        check(c.delete(name).status == "success")
        with refused(ollama.ResponseError, 404):
            c.chat(name, HI)
    check(NAME in names(c), "a name went, not its model")
    check(c.delete(NAME).status == "success" and NAME not in names(c))
    for f in (lambda: c.chat(NAME, HI), lambda: c.show(NAME), lambda: c.delete(NAME), lambda: c.copy(NAME, "x")):
        with refused(ollama.ResponseError, 404):
            f()
    check(not any(files for at, _, files in os.walk(server.store) if NAME.split(":")[0] in at))


def failures(c, hub):
    with refused(ollama.ResponseError, 404, "org/none"):
        c.pull("org/none")
    with refused(ollama.ResponseError, about="org/none"):
        list(c.pull("org/none", stream=True))
    with refused(ollama.ResponseError, 400):
        c.pull("no name at all")
    with refused(ollama.ResponseError, 404, "Q2_K"):
        c.pull("org/pilot:Q2_K")
    hub.wrong.add("org/pilot")
    with refused(ollama.ResponseError, 502, "SHA-256"):
        c.pull("org/pilot")
    hub.wrong.clear()
    check(NAME not in names(c), "what is not what the hub said is no model")
    with refused(ollama.ResponseError, 404):
        c.delete("../../etc")


def left_in_the_middle(c, hub):
    """Who goes away stops the fetching; the next one goes on from there."""
    hub.slow = 0.1
    for p in c.pull("org/pilot", stream=True):
        if p.completed:
            break
    p = None
    time.sleep(0.5)
    before = hub.bytes_sent
    time.sleep(1)
    check(hub.bytes_sent - before < 300000, "it goes on without anybody")
    hub.slow = 0.0
    check(c.pull("org/pilot").status == "success" and c.chat(NAME, HI, options=FEW).message.content)


def main():
    with open(PILOT, "rb") as f:
        hub = Hub({"org/pilot": {"pilot-BF16.gguf": f.read(), "README.md": b"A model."}})
    with hub, tempfile.TemporaryDirectory() as store:
        import hashlib
        keys = os.path.join(store, "keys")
        with open(keys, "w") as f:
            for name, options in (("admin", "scopes=all"), ("user", "")):
                f.write(hashlib.sha256(name.encode()).hexdigest() + f" name={name} {options}\n")
        with Server("--stored", "--store", os.path.join(store, "models"), "--hub", hub.url, "--api-keys",
                    keys) as server:
            server.store = os.path.join(store, "models")
            c = ollama.Client(host=server.url, headers={"Authorization": "Bearer admin"})
            user = ollama.Client(host=server.url, headers={"Authorization": "Bearer user"})
            for f in (lambda: user.pull("org/pilot"), lambda: user.delete("tiny"), lambda: user.copy("a", "b"),
                      lambda: user.create("a", from_="tiny")):
                with refused(ollama.ResponseError, 403):
                    f()
            failures(c, hub)
            fetched(c, hub)
            used(c)
            removed(c, server)
            left_in_the_middle(c, hub)
            lists = json.loads(server.ask("/v1/models", headers={"Authorization": "Bearer user"})[2])
            check({"tiny", NAME} <= {m["id"] for m in lists["data"]}, lists)
    with Server() as server:
        c = ollama.Client(host=server.url)
        with refused(ollama.ResponseError, 404, "no store"):
            c.pull("org/pilot")
        check(c.pull("tiny").status == "success", "what is there need not be fetched")
        with refused(ollama.ResponseError, 400, "no store"):
            c.delete("tiny")
    done("a hub, a store, pull, show, ps, copy, create, delete by ollama")


main()
