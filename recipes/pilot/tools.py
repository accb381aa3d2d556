"""Calls of two tools, in the Hermes format, and answers from what they return."""

import json

from grounded import RELATIONS, KINDS, sentence, coin_name

CALCULATOR = {"type": "function", "function": {
    "name": "calculator", "description": "Evaluates an arithmetic expression.",
    "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]}}}
SEARCH = {"type": "function", "function": {
    "name": "search", "description": "Searches for texts about something.",
    "parameters": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}}}

WORDS = {"+": ["plus"], "-": ["minus"], "*": ["times", "multiplied by"], "/": ["divided by"]}
CALC_ASK = ["What is {x}?", "Calculate {x}.", "How much is {x}?", "{x} = ?", "Compute {x}.", "What does {x} give?",
            "Please work out {x}.", "Tell me {x}.", "I need the value of {x}.", "Use the calculator for {x}.", "{x}?",
            "Can you calculate {x}?", "Could you work out {x}?", "What do you get for {x}?", "The value of {x}, please.", "How much do I get for {x}?", "Please tell me what {x} is.", "Evaluate {x}."]
SEARCH_ASK = ["Search for {q}.", "Look up {q}.", "Find out about {q}.", "Please search for {q}.", "Find texts about {q}.",
              "Can you look up {q}?", "Use the search for {q}.", "I want to read about {q}.", "What can you find about {q}?",
              "Find {q}.", "Look for {q}.", "Can you search for {q}?", "Please find {q}.", "Find something about {q}, please.", "Could you look for {q}?", "I would like to know more about {q}.", "Get me texts about {q}."]


def call(name, **arguments):
    return "<tool_call>\n" + json.dumps({"name": name, "arguments": arguments}) + "\n</tool_call>"


def number(r):
    return r.pick([r.range(2, 99), r.range(10, 999), r.range(100, 9999)])


def expression(r):
    """(spelled in the question, as the tool gets it)"""
    a, b, op = number(r), number(r), r.pick("+-**/")
    if r.chance(0.15):
        c, op2 = number(r), r.pick("+-*")
        return "%d %s %d %s %d" % (a, op, b, op2, c), "%d %s %d %s %d" % (a, op, b, op2, c)
    value = "%d %s %d" % (a, op, b)
    if r.chance(0.35):
        return "%d %s %d" % (a, r.pick(WORDS[op]), b), value
    if r.chance(0.2):
        return "%d%s%d" % (a, op, b), value
    return value, value


NOUNS = ("age size height weight price history name population colour length weather news food music law king queen "
         "mayor river capital flag language church castle bridge war trade coast island").split()


def topic(r):
    kind = r.below(4)
    if kind == 0:
        return coin_name(r)
    if kind == 1:
        return "the %s of %s" % (r.pick(NOUNS), coin_name(r))
    if kind == 2:
        return "%s in %s" % (r.pick(NOUNS), coin_name(r))
    make, _ = RELATIONS[r.weighted(KINDS)]
    return make(r)


def tools(r):
    """The list of tools, in any order; seldom only one."""
    both = [CALCULATOR, SEARCH] if r.chance(0.5) else [SEARCH, CALCULATOR]
    return both if r.chance(0.85) else both[:1]


def calculation(r):
    spelled, value = expression(r)
    messages = [{"role": "user", "content": r.pick(CALC_ASK).format(x=spelled)},
                {"role": "assistant", "content": call("calculator", expression=value)}]
    if r.chance(0.3):
        result = str(number(r))
        messages += [{"role": "tool", "content": result}, {"role": "assistant", "content": "The result is %s." % result}]
    return messages


def search(r):
    if r.chance(0.5):
        q = topic(r)
        return [{"role": "user", "content": r.pick(SEARCH_ASK).format(q=q)},
                {"role": "assistant", "content": call("search", query=q)}]
    # a question that only a search can answer, and the answer from what it found
    make, relations = RELATIONS[r.weighted(KINDS)]
    entity = make(r)
    draw, frames, asks = r.pick(relations)
    value = draw(r)
    messages = [{"role": "user", "content": r.pick(asks).format(e=entity)},
                {"role": "assistant", "content": call("search", query=entity)}]
    if r.chance(0.4):
        messages += [{"role": "tool", "content": "[1] " + sentence(r, entity, value, frames)},
                     {"role": "assistant", "content": "It is %s [1]." % value}]
    return messages


def turn(r, listed):
    """A question for one of the listed tools, its call, and perhaps the answer."""
    name = r.pick(listed)["function"]["name"]
    return calculation(r) if name == "calculator" else search(r)
