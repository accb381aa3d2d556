#!/usr/bin/env python3
"""Writes the pilot's training data: conversations, drawn from a seed.

    generate.py --seed 1 --n 100000 [--format chat|text] > train.jsonl

chat: one conversation a line, {"messages": [...], "tools": [...]}, as watt train --sft reads them.
text: the same rendered as the pilot's template renders it, {"text": "..."} a line. Document i depends on the seed
and on i alone. Needs Python 3.9 and nothing else."""

import argparse
import json
import sys

import arithmetic
import grounded
import talk
import tools
from words import Rng

SYSTEMS = ["You are a helpful assistant.", "You are Pilot.", "You are a helpful assistant. Answer briefly.",
           "Answer the user.", "Be brief.", "You are a small model that ships with Watt."]
ASK = ["What is {}?", "{} = ?", "How much is {}?", "{}", "Calculate {}."]


def drills(r, phase):
    """A page of sums, or one sum as a question."""
    if r.chance(0.5):
        a, op, b, c = arithmetic.drill(r, phase)
        return {"messages": [{"role": "user", "content": r.pick(ASK).format("%d %s %d" % (a, op, b))},
                             {"role": "assistant", "content": "%d %s %d = %d\n#### %d" % (a, op, b, c, c)}]}
    return {"messages": [{"role": "assistant", "content": "\n".join("%d %s %d = %d" % arithmetic.drill(r, phase) for _ in range(r.range(4, 16)))}]}


def pair(turn):
    return [{"role": "user", "content": turn[0]}, {"role": "assistant", "content": turn[1]}]


def chat(r, phase):
    """Problems and questions without tools, one after another now and then."""
    messages = []
    for _ in range(2 if r.chance(0.1) else 1):
        kind = r.weighted(CHAT[phase])
        if kind == "sources":
            messages += grounded.questions(r, STUDY[phase])
        elif kind == "short":
            messages += grounded.short(r)
        else:
            messages += pair(arithmetic.problem(r, phase) if kind == "problem" else talk.turn(r))
    if r.chance(0.1):
        messages.insert(0, {"role": "system", "content": r.pick(SYSTEMS)})
    return {"messages": messages}


def with_tools(r, phase):
    listed, messages = tools.tools(r), []
    for _ in range(r.weighted([(2, 1), (2, 2), (1, 3)])):
        messages += pair(talk.about(r)) if r.chance(0.1) else tools.turn(r, listed)
    return {"messages": messages, "tools": listed}


def document(seed, i, phase):
    r = Rng((seed << 40) ^ (i * 0xD1342543DE82EF95))
    return r.weighted(ALL[phase])(r, phase)


CHAT = {1: [(50, "problem"), (26, "sources"), (18, "short"), (6, "talk")],
        2: [(58, "problem"), (33, "sources"), (6, "short"), (3, "talk")],
        3: [(61, "problem"), (31, "sources"), (5, "short"), (3, "talk")]}
ALL = {1: [(78, chat), (15, with_tools), (7, drills)], 2: [(79, chat), (18, with_tools), (3, drills)],
       3: [(77, chat), (17, with_tools), (6, drills)]}
STUDY = {1: 0.5, 2: 0.25, 3: 0.25}


def render(d):
    """What template.jinja makes of it."""
    out = []
    if d.get("tools"):
        out.append("<|im_start|>system\n<tools>\n")
        for t in d["tools"]:
            out.append("%s(%s)\n" % (t["function"]["name"], ", ".join(t["function"]["parameters"]["properties"])))
        out.append("</tools><|im_end|>\n")
    for m in d["messages"]:
        if m["role"] == "tool":
            out.append("<|im_start|>user\n<tool_response>\n%s\n</tool_response><|im_end|>\n" % m["content"])
        else:
            out.append("<|im_start|>%s\n%s<|im_end|>\n" % (m["role"], m["content"]))
    return "".join(out)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--n", type=int, default=1000)
    p.add_argument("--phase", type=int, choices=[1, 2, 3], default=1,
                   help="of the training: 1 has more quotes, lists and short sources, 2 more of what is asked in the end and "
                        "larger numbers, 3 more ways to say what happens")
    p.add_argument("--format", choices=["chat", "text", "plain"], default="chat")
    a = p.parse_args()
    for i in range(a.n):
        d = document(a.seed, i, a.phase)
        if a.format == "chat":
            line = json.dumps(d)
        elif a.format == "text":
            line = json.dumps({"text": render(d)})
        else:
            line = render(d)
        sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
