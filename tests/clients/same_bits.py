#!/usr/bin/env python3
"""64 requests alone and then all together, in random order among requests that are cancelled, cold and
from the cache, with speculation and without: the same tokens, over HTTP."""
import json
import os
import random
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "lib"))
from rig import Server, check, done, together  # noqa: E402
import http.client  # noqa: E402

N = 64


def bodies():
    rng = random.Random(11)
    shared = " ".join(str(rng.randrange(1000)) for _ in range(150))
    out = []
    for i in range(N):
        text = "Item %d: " % i + "abc %d " % (i % 5) * rng.randrange(1, 40)
        if i % 3 == 0:
            text = shared + text
        body = {"prompt": text, "max_tokens": rng.randrange(8, 48), "seed": i, "ignore_eos": True,
                "temperature": 0 if i % 2 else 0.9, "logprobs": 0}
        if i % 8 == 1:
            body |= {"structured_outputs": {"regex": "[ab]{20,60}"}, "ignore_eos": False}
        out.append(body)
    return out


def tokens(server, body):
    """As text and as log probabilities, which tell the bits."""
    code, _, text = server.ask("/v1/completions", body, timeout=300)
    check(code == 200, text)
    choice = json.loads(text)["choices"][0]
    return choice["text"], choice["logprobs"]["token_logprobs"], choice["finish_reason"]


def cancelled(server, body):
    c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=300)
    c.request("POST", "/v1/completions", json.dumps({**body, "stream": True, "max_tokens": 400}))
    c.getresponse().read(50)
    c.close()


def crowd(server, asked, seed):
    rng = random.Random(seed)
    got = [None] * N
    jobs = [lambda i=i: got.__setitem__(i, tokens(server, asked[i])) for i in range(N)]
    jobs += [lambda i=i: cancelled(server, asked[i]) for i in rng.sample(range(N), 20)]
    rng.shuffle(jobs)
    gate = threading.Semaphore(48)

    def gated(job):
        with gate:
            job()

    together([lambda j=j: gated(j) for j in jobs])
    return got


def main():
    asked = bodies()
    with Server("--no-prefix-cache", "--parallel", "1") as server:
        alone = [tokens(server, {**b, "speculative.n_max": 0}) for b in asked]
        check(server.metric("watt_drafted_tokens_total") == 0)
    ways = {"cold": ["--no-prefix-cache"], "cached": [],
            "little memory": ["--parallel", "8", "--kv-bytes", "3M"],
            "small steps": ["--max-rows", "48", "--mixed-rows", "16"]}
    for name, options in ways.items():
        with Server(*options) as server:
            for seed in (1, 2):
                got = crowd(server, asked, seed)
                wrong = [i for i in range(N) if got[i] != alone[i]]
                check(not wrong, f"{name}: {len(wrong)} differ, the first is {wrong[:1]}: "
                      f"{[(got[i], alone[i]) for i in wrong[:1]]}")
            accepted = server.metric("watt_accepted_tokens_total")
            cached = server.metric("watt_cached_tokens_total")
            check(name == "cold" or cached > 0)
            print(f"{name}: {cached:.0f} cached, {accepted:.0f} accepted tokens, "
                  f"{server.metric('watt_preemptions_total'):.0f} preemptions")
            check(accepted > 0, "speculation took part")
    done(f"{N} requests, {len(ways)} ways, twice each")


main()
