#!/usr/bin/env python3
"""Writes the pilot's held-out test set, as `watt eval --tasks` reads it.

    heldout.py [--seed 20260] [--n 200] > heldout.jsonl

Nothing here comes from the generators of the training data: other people, things and places, other sentences in
another order, other numbers. What they share is the outer form: `#### n` at the end of a worked problem, numbered
sources, the list of tools."""

import argparse
import json
import sys

from words import Rng

PEOPLE = ("Agnes Boris Cora Dylan Edith Farid Gloria Henry Irene Jonas Kira Liam Martha Nadia Otto Priya Quentin Rita "
          "Stefan Tessa Ursula Viktor Wendy Xenia Yusuf").split()
THINGS = ("acorns bananas blankets candies cherries combs crayons feathers grapes hats kites ladders mugs needles olives "
          "pears pillows radishes ribbons spoons tulips walnuts").split()
HOLDERS = [("chest", "chests"), ("sack", "sacks"), ("case", "cases"), ("bucket", "buckets"), ("carton", "cartons")]


class Cast:
    def __init__(self, r):
        self.r = r
        self.a = r.pick(PEOPLE)
        self.b = r.pick([p for p in PEOPLE if p != self.a])
        self.t = r.pick(THINGS)
        self.h, self.hs = r.pick(HOLDERS)

    def say(self, *forms, **kw):
        return self.r.pick(forms).format(a=self.a, b=self.b, t=self.t, h=self.h, hs=self.hs, **kw)


# ---- word problems ----

def change(c, n, lost, owned):
    """One event. Only where {a} alone has the things it is plain what {a} sells or gets."""
    if lost:
        forms = ["Then {b} took {n} of them.", "{n} {t} were broken after that.", "In the evening {a} gave {n} of the {t} away."]
        forms += ["After that {a} sold {n} {t} to {b}.", "On the way {a} lost {n} {t}."] if owned else []
    else:
        forms = ["Then {b} brought {n} {t}.", "{n} more {t} were added after that.", "In the evening {b} laid {n} {t} there."]
        forms += ["After that {a} bought {n} more {t}.", "On the way {a} found {n} more {t}.",
                  "In the evening {b} gave {a} {n} {t}."] if owned else []
    return c.say(*forms, n=n)


def begin(c, n):
    """(sentence, whether {a} alone has them)"""
    if c.r.chance(0.25):
        return c.say("In a {h} there are {n} {t}.", "{n} {t} are stored in a {h}.", n=n), False
    return c.say("At the start {a} has {n} {t}.", "Last week {a} had {n} {t}.", "There were {n} {t} on the table of {a}.",
                 "{a} looks after {n} {t}.", n=n), True


def ask_left(c):
    return c.say("How many {t} are there after that?", "How many {t} are left in the end?", "How many {t} does that make now?",
                 "What number of {t} is there now?")


def events(c, r, n_events):
    large = r.chance(0.5)
    at = r.range(100, 600) if large else r.range(10, 85)
    first, owned = begin(c, at)
    text = [first]
    for _ in range(n_events):
        d = r.range(20, 250) if large else r.range(3, 40)
        lost = r.chance(0.5) and d <= at
        text.append(change(c, d, lost, owned))
        at += -d if lost else d
    return " ".join(text + [ask_left(c)]), at


def rows(c, r):
    large = r.chance(0.5)
    k, n = r.range(2, 9 if large else 10), r.range(12, 40) if large else r.range(2, 14)
    owned = r.chance(0.65)
    first = c.say("{a} has {k} {hs} and each of them holds {n} {t}.", "{a} came with {k} {hs} of {n} {t} each.", k=k, n=n) \
        if owned else c.say("In the garden there are {k} rows and each row has {n} {t}.", k=k, n=n)
    if r.chance(0.4):
        return first + " " + c.say("How many {t} is that in all?", "What is the number of {t}?"), k * n
    d = r.range(20, 200) if large else r.range(3, 30)
    lost = r.chance(0.5) and d <= k * n
    return " ".join([first, change(c, d, lost, owned), ask_left(c)]), k * n - d if lost else k * n + d


def shares(c, r):
    k, n = r.range(2, 9), r.range(3, 12)
    if r.chance(0.5):
        return c.say("{a} has {m} {t} for {k} friends. Each gets the same number. How many {t} does each friend get?",
                     "{m} {t} are divided among {k} people evenly. How many {t} does each get?", m=k * n, k=k), n
    d = r.range(2, min(20, k * n - 1))
    return c.say("{b} had {m} {t} and {a} gave {b} {d} more. Then {k} children shared them evenly. How many {t} did each get?",
                 "In the morning {a} picked {m} {t}, then {d} more. All were put into {k} {hs} evenly. How many are in each?",
                 m=k * n - d, d=d, k=k), n


def costs(c, r):
    k, n = r.range(2, 9), r.range(2, 12)
    left = r.range(1, 30)
    return c.say("{a} has {m} coins and buys {k} {t} for {n} coins each. How many coins are left in the end?",
                 "In the shop {b} bought {k} {t} that cost {n} coins each. {b} had {m} coins. How many coins remain now?",
                 m=k * n + left, k=k, n=n), left


def compared(c, r):
    n, d = r.range(8, 50), r.range(3, 30)
    both = r.chance(0.6)
    if r.chance(0.3):
        k, word = r.pick([(2, "twice"), (3, "three times"), (4, "four times")])
        n = r.range(3, 20)
        text, other = c.say("{a} found {n} {t} and {b} found {w} as many.", "Today {a} sold {n} {t}. {b} sold {w} as many.",
                            n=n, w=word), n * k
    else:
        more = d >= n or r.chance(0.5)
        text = c.say("{a} found {n} {t} and {b} found {d} {w}.", "Today {a} sold {n} {t}. {b} sold {d} {w} than {a}.",
                     n=n, d=d, w="more" if more else "fewer")
        other = n + d if more else n - d
    if both:
        return text + " " + c.say("How many {t} is that together?", "How many {t} did {a} and {b} have in all?"), n + other
    return text + " " + c.say("How many {t} is that for {b}?", "How many {t} does {b} have?"), other


def arithmetic(r):
    c = Cast(r)
    kind = r.weighted([(10, lambda: events(c, r, 1)), (26, lambda: events(c, r, 2)), (12, lambda: events(c, r, 3)),
                       (22, lambda: rows(c, r)), (10, lambda: shares(c, r)), (8, lambda: costs(c, r)),
                       (12, lambda: compared(c, r))])
    text, n = kind()
    return {"task": "arithmetic", "messages": [{"role": "user", "content": text}], "number": str(n)}


# ---- sources ----

HEADS = "Al Bel Cor Dun Ebber Fal Gorm Hal Ist Jol Kest Lor Mar Nor Ost Pell Ros Sel Tor Ul Vand West Yar Zel".split()
TAILS = "by dale dorf field ford gard ham hurst ington ley mere mouth sted ton wick worth".split()


def place(r):
    return r.pick(HEADS) + r.pick(TAILS)


def someone(r):
    return r.pick(PEOPLE) + " " + place(r) if r.chance(0.3) else r.pick(PEOPLE)


def year(r):
    return str(r.range(1300, 2020))


def amount(r):
    return str(r.range(12, 9000))


BUILDINGS = "mill bridge church school tower castle station library market museum".split()
# kind of entity: how it is named; attributes: value, sentences, questions
WORLD = [
    (lambda r: "the %s in %s" % (r.pick(BUILDINGS), place(r)), [
        (year, ["In {v} {e} was built.", "They opened {e} in {v}."], ["What year was {e} built?", "When was {e} opened?"]),
        (lambda r: r.pick("wood stone glass iron brick clay".split()), ["{E} is built of {v}.", "For {e} they used {v}."],
         ["What is {e} built of?", "Of what is {e} made?"]),
        (lambda r: r.pick(PEOPLE), ["The plans for {e} are by {v}.", "{E} was planned and designed by {v}."],
         ["Who designed {e}?", "By whom are the plans for {e}?"]),
        (amount, ["{E} is known for its {v} windows.", "One can see {v} windows in {e}."],
         ["How many windows are there in {e}?", "How many windows has {e}?"]),
    ]),
    (someone, [
        (place, ["The town where {e} lives is {v}.", "{E} lives and works in {v}."], ["Where does {e} live?", "In what town is the home of {e}?"]),
        (lambda r: r.pick("baker doctor farmer teacher painter tailor miller sailor writer nurse".split()),
         ["In the town {e} works as a {v}.", "The job of {e} is that of a {v}."], ["What does {e} work as?", "What is the job of {e}?"]),
        (year, ["It was in {v} that {e} was born.", "Born in {v}, {e} is well known here."], ["In what year was {e} born?", "When was {e} born?"]),
        (lambda r: r.pick("soup bread cheese rice fish honey cake pasta salad".split()),
         ["Of all food {e} likes {v} best.", "What {e} loves to eat is {v}."], ["What food does {e} like best?", "What does {e} like to eat?"]),
        (lambda r: r.pick("red blue green white black brown grey".split()) + " " + r.pick("dog cat horse goat rabbit duck fox".split()),
         ["At home {e} has a {v}.", "{E} lives with a {v}."], ["What animal does {e} have?", "What animal lives with {e}?"]),
    ]),
    (place, [
        (amount, ["In {e} there live {v} people.", "The number of people in {e} is {v}."], ["How many people live in {e}?", "How many people are in {e}?"]),
        (lambda r: r.pick("wool salt glass honey paper silk cheese pottery bells boats".split()),
         ["What people know about {e} is its {v}.", "Many know {e} for its {v}."], ["What is {e} known for?", "What is {e} famous for?"]),
        (lambda r: r.pick(PEOPLE), ["In {e} the mayor is {v}.", "{v} became the mayor of {e}."], ["Who is the mayor of {e}?", "Who became mayor in {e}?"]),
        (lambda r: r.pick("January March April May June July August October November".split()),
         ["Every {v} people come to the fair in {e}.", "The fair of {e} is in {v}."], ["In what month is the fair in {e}?", "When is the fair of {e}?"]),
    ]),
]


def upper(s):
    return s[0].upper() + s[1:]


def passages(r):
    n = r.range(2, 4)
    same = r.chance(0.5)
    kind = r.pick(WORLD)
    texts, said, names = [], [], set()
    for k in range(1, n + 1):
        make, facts = kind if same else r.pick(WORLD)
        e = make(r)
        while e in names:
            e = make(r)
        names.add(e)
        chosen = r.shuffled(facts)[:r.range(1, 2)]
        parts = []
        for f in chosen:
            v = f[0](r)
            parts.append(upper(r.pick(f[1]).format(e=e, E=upper(e), v=v)))
            said.append((e, f, v, k))
        texts.append("[%d] %s" % (k, " ".join(parts)))
        if k == 1 or r.chance(0.5):
            lacks = (make, facts, e, [f for f in facts if f not in chosen], chosen)
    return texts, said, names, lacks


def ask(texts, question):
    return [{"role": "user", "content": "Sources:\n" + "\n".join(texts) + "\n\nQuestion: " + question}]


def citation(r):
    texts, said, _, _ = passages(r)
    e, f, v, k = r.pick(said)
    return {"task": "citation", "messages": ask(texts, r.pick(f[2]).format(e=e)), "contains": [v], "cites": [k],
            "abstention": "Not in the sources"}


def abstention(r):
    texts, _, names, (make, _, e, missing, chosen) = passages(r)
    if r.chance(0.5):
        q = r.pick(r.pick(missing)[2]).format(e=e)
    else:
        other = make(r)
        while other in names:
            other = make(r)
        q = r.pick(r.pick(chosen)[2]).format(e=other)
    return {"task": "abstention", "messages": ask(texts, q), "abstains": True, "abstention": "Not in the sources"}


# ---- tools ----

def tool(name, what, argument):
    return {"type": "function", "function": {"name": name, "description": what, "parameters": {
        "type": "object", "properties": {argument: {"type": "string"}}, "required": [argument]}}}


TOOLS = [tool("calculator", "Evaluates an arithmetic expression.", "expression"),
         tool("search", "Searches for texts about something.", "query")]


def call(r):
    if r.chance(0.5):
        a, b = r.range(3, 9999), r.range(3, 999)
        op, words = r.pick([("+", "plus"), ("-", "minus"), ("*", "times"), ("/", "divided by")])
        x = "%d %s %d" % (a, r.pick([op, op, words]), b)
        text = r.pick(["Please calculate {}.", "How much is {}, please?", "What is the result of {}?", "Work out {} for me.",
                       "Can you tell me what {} is?", "What do I get for {}?"]).format(x)
        want = {"name": "calculator", "arguments": {"expression": "%d %s %d" % (a, op, b)}}
    else:
        q = r.pick(["the %s of %s" % (r.pick("age history size mayor name river castle".split()), place(r)), place(r), r.pick(PEOPLE),
                    "the %s in %s" % (r.pick(BUILDINGS), place(r)), "%s in %s" % (r.pick("food weather news music".split()), place(r))])
        text = r.pick(["Please look up {}.", "Can you find texts about {}?", "Search for {}, please.", "I want to find out about {}.",
                       "Look for texts about {}.", "Please find out about {}."]).format(q)
        want = {"name": "search", "arguments": {"query": q}}
    return {"task": "tool call", "messages": [{"role": "user", "content": text}], "tools": r.shuffled(TOOLS), "call": want}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--seed", type=int, default=20260)
    p.add_argument("--n", type=int, default=200, help="items of each task")
    a = p.parse_args()
    for i, make in enumerate([arithmetic, citation, abstention, call]):
        r, seen = Rng((a.seed << 8) + i), set()
        while len(seen) < a.n:
            item = json.dumps(make(r))
            if item not in seen:
                seen.add(item)
                sys.stdout.write(item + "\n")


if __name__ == "__main__":
    main()
