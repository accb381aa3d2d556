"""Calls of two tools, in the Hermes format, and answers from what they return."""

import json

from grounded import (ANIMALS, FOODS, GOODS, JOBS, KINDS, MADE_OF, RELATIONS, SPORTS, SUBJECTS, asked, known, person,
                      sentence)
from words import NAMES, OBJECTS, coin, coin_name, pieces

CALCULATOR = {"type": "function", "function": {
    "name": "calculator", "description": "Evaluates an arithmetic expression.",
    "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]}}}
SEARCH = {"type": "function", "function": {
    "name": "search", "description": "Searches for texts about something.",
    "parameters": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}}}

WORDS = {"+": ["plus"], "-": ["minus"], "*": ["times", "multiplied by"], "/": ["divided by"]}
CALC_ASK = ["What is {x}?", "Calculate {x}.", "How much is {x}?", "{x} = ?", "Compute {x}.", "What does {x} give?",
            "Please work out {x}.", "Tell me {x}.", "I need the value of {x}.", "Use the calculator for {x}.", "{x}?",
            "Can you calculate {x}?", "Could you work out {x}?", "What do you get for {x}?", "The value of {x}, please.",
            "How much do I get for {x}?", "Please tell me what {x} is.", "Evaluate {x}.",
            "Do this sum for me: {x}.", "What is {x} in all?", "Find the result of {x}.", "I want to know {x}.",
            "Give me {x}, please.",
            "How much does {x} make?", "Could you tell me how much {x} is?", "Solve {x} for me.", "What would {x} be?",
            "So what is {x}?"]
SEARCH_ASK = ["Search for {q}.", "Look up {q}.", "Find out about {q}.", "Please search for {q}.", "Find texts about {q}.",
              "Can you look up {q}?", "Use the search for {q}.", "I want to read about {q}.", "What can you find about {q}?",
              "Find {q}.", "Look for {q}.", "Can you search for {q}?", "Please find {q}.", "Find something about {q}, please.",
              "Could you look for {q}?", "I would like to know more about {q}.", "Get me texts about {q}.",
              "Please look for {q}.", "Do a search for {q}, please.", "What is there to read about {q}?", "Show me texts on {q}.",
              "I need to find out more about {q}.", "Is there anything about {q}?", "Could you find something about {q}?",
              "Look {q} up, please.", "Search {q}.", "Tell me what you find about {q}.", "Go and look for {q}.",
              "Can you search the texts for {q}?"]


# A request put together: many more ways to say it than the lists above have.
BEGIN = ["", "", "Please ", "Can you ", "Could you ", "Would you ", "I want you to ", "Help me to ", "Let us ", "Now ",
"Try to ", "You should ",
         "I ask you to ", "Kindly ", "Go and ", "Be so good and "]
FIND = ("search for|look for|find|look up|get me|fetch|seek|hunt for|show me|tell me what you find on|discover|dig up|bring me|"
        "read up on|give me|collect|check|ask the search for").split("|")
ABOUT = ["", "", "", "texts on ", "texts about ", "something about ", "something on ", "pages about ", "articles on ", "all about ",
         "what is written on ", "anything on ", "more about ", "the best texts about ", "some texts on ", "sources on "]
RECKON = ("calculate|compute|work out|find|tell me|solve|reckon|figure out|say what is|evaluate|do|give me|get me the value of|find out|"
          "tell me the answer to|give me the result of|use the calculator on|let the calculator do").split("|")
AFTER = ["", "", "", ", please", " for me", " now", " at once", ", will you", " today", ", thank you"]
FIRST = ["{x} is what?", "{x} is how many?", "{x} makes what?", "{x}: how much is it?", "{x}, please.", "{x} equals what?",
"{x} comes to what?"]


def request(r, verbs, about, what):
    """[Please] look for [texts on] WHAT[, please]."""
    begin = r.pick(BEGIN)
    text = begin + r.pick(verbs) + " " + r.pick(about) + what + r.pick(AFTER)
    return text[0].upper() + text[1:] + ("?" if begin.endswith(("Can you ", "Could you ", "Would you ")) else ".")


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
         "mayor river capital flag language church castle bridge war trade coast island market people road "
         "school story art fish trade harbour wind rain owner walls books").split()


def noun(r):
    """What a topic is of: a common word, a thing, a trade, or a word that means nothing."""
    kind = r.below(10)
    if kind < 5:
        return r.pick(NOUNS)
    if kind < 8:
        return r.pick(r.pick([OBJECTS, JOBS, FOODS, GOODS, ANIMALS, SPORTS, MADE_OF, SUBJECTS]))
    return coin(r) if kind == 8 else "".join(pieces(r))


def topic(r):
    kind = r.below(9)
    if kind < 2:
        return coin_name(r, 0.1)
    if kind == 2:
        return r.pick(NAMES) if r.chance(0.3) else person(r)
    if kind == 3:
        return "%s %s %s" % (noun(r), r.pick(["and", "with", "from", "for", "without"]), noun(r))
    if kind < 6:
        return "the %s %s %s" % (noun(r), r.pick(["of", "of", "of", "in", "at", "near"]), coin_name(r, 0.1))
    if kind < 8:
        return "%s %s %s" % (noun(r), r.pick(["of", "in", "in", "at", "near", "from"]), coin_name(r, 0.1))
    make, _ = RELATIONS[r.weighted(KINDS)]
    return make(r)


def tools(r):
    """The list of tools, in any order; seldom only one."""
    both = [CALCULATOR, SEARCH] if r.chance(0.5) else [SEARCH, CALCULATOR]
    return both if r.chance(0.85) else both[:1]


def calculation(r):
    spelled, value = expression(r)
    if r.chance(0.5):
        ask = request(r, RECKON, [""], spelled)
    else:
        ask = r.pick(FIRST if r.chance(0.2) else CALC_ASK).format(x=spelled)
    messages = [{"role": "user", "content": ask},
                {"role": "assistant", "content": call("calculator", expression=value)}]
    if r.chance(0.3):
        result = str(number(r))
        messages += [{"role": "tool", "content": result}, {"role": "assistant", "content": "The result is %s." % result}]
    return messages


def search(r):
    if r.chance(0.7):
        q = topic(r)
        ask = request(r, FIND, ABOUT, q) if r.chance(0.6) else r.pick(SEARCH_ASK).format(q=q)
        return [{"role": "user", "content": ask},
                {"role": "assistant", "content": call("search", query=q)}]
    # a question that only a search can answer, and the answer from what it found
    make, relations = RELATIONS[r.weighted(KINDS)]
    entity = make(r)
    relation = r.pick(relations)
    value = relation[2](r)
    messages = [{"role": "user", "content": asked(r, entity, relation)},
                {"role": "assistant", "content": call("search", query=entity)}]
    if r.chance(0.4):
        messages += [{"role": "tool", "content": "[1] " + sentence(r, entity, value, relation)},
                     {"role": "assistant", "content": known(relation[0], entity, 1, value)}]
    return messages


def turn(r, listed):
    """A question for one of the listed tools, its call, and perhaps the answer."""
    name = r.pick(listed)["function"]["name"]
    return calculation(r) if name == "calculator" else search(r)
