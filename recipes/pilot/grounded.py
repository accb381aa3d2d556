"""Questions about numbered sources: the answer with its citation `[k]`, or
"Not in the sources." when they do not say."""

from words import NAMES, coin_name

ABSTAIN = "Not in the sources."

COLOURS = "red blue green white black yellow brown grey golden silver".split()
ANIMALS = "dog cat horse goat rabbit parrot donkey duck turtle fox".split()
JOBS = "baker doctor farmer teacher painter tailor miller sailor writer nurse carpenter singer".split()
FOODS = "soup bread cheese rice fish honey cake pasta salad plums".split()
SPORTS = "tennis football chess swimming rowing running skating boxing".split()
MONTHS = "January February March April May June July August September October November December".split()
BUILDINGS = "mill bridge church school tower castle station library market museum".split()
MADE_OF = "wood stone glass iron brick clay".split()
GOODS = "wool salt glass honey paper silk cheese pottery bells boats".split()


def person(r):
    return r.pick(NAMES) if r.chance(0.4) else coin_name(r)


def year(r):
    return str(r.range(1200, 2025))


def number(r):
    return str(r.range(2, 9) if r.chance(0.3) else r.range(10, 99) if r.chance(0.5) else r.range(100, 9999))


# Each relation: kind of entity, how a value is drawn, sentences, questions.
# {e} is the entity, {v} the value.
def building(r):
    return "the %s of %s" % (r.pick(BUILDINGS), coin_name(r))


RELATIONS = {
    "building": (building, [
        (year, ["{E} was built in {v}.", "{E} dates from {v}.", "{E} was opened in {v}.", "The year {v} saw the opening of {e}.", "In the year {v} people built {e}.", "Since {v} there is {e}."],
         ["When was {e} built?", "In what year was {e} built?", "How old is {e}, from what year?", "What year was {e} opened?", "When was the opening of {e}?", "Since when is there {e}?"]),
        (lambda r: r.pick(MADE_OF), ["{E} is made of {v}.", "{E} was made of {v}.", "They made {e} of {v}.", "The walls of {e} are of {v}.", "{V} is what {e} is made of."],
         ["What is {e} made of?", "Of what is {e} made?", "What did they make {e} of?"]),
        (lambda r: coin_name(r), ["{E} was designed by {v}.", "{v} designed {e}.", "{v} drew the plans for {e}.", "{v} planned {e}.", "It was {v} who designed {e}."],
         ["Who designed {e}?", "Who drew the plans for {e}?", "By whom was {e} designed?"]),
        (number, ["{E} has {v} windows.", "There are {v} windows in {e}.", "{v} windows are in {e}.", "{E} was built with {v} windows.", "You can count {v} windows in {e}."],
         ["How many windows does {e} have?", "How many windows are in {e}?", "What number of windows has {e}?", "How many windows can you count in {e}?"]),
        (lambda r: r.pick(COLOURS), ["{E} is painted {v}.", "The colour of {e} is {v}.", "{E} is {v}."],
         ["What colour is {e}?", "What is the colour of {e}?", "In what colour is {e} painted?"]),
    ]),
    "person": (person, [
        (lambda r: coin_name(r), ["{E} lives in {v}.", "The home of {e} is in {v}.", "{E} has a house in {v}.", "In {v} lives {e}.", "{E} moved to {v}, and lives there now."],
         ["Where does {e} live?", "In what town does {e} live?", "Where is the home of {e}?", "In what place does {e} live?", "What is the town of {e}?"]),
        (lambda r: r.pick(JOBS), ["{E} works as a {v}.", "{E} is a {v}.", "By trade {e} is a {v}.", "As a {v} {e} works hard.", "{E} became a {v}."],
         ["What is the job of {e}?", "What does {e} work as?", "What is {e} by trade?", "As what does {e} work?", "What job does {e} have?"]),
        (year, ["{E} was born in {v}.", "The birth of {e} was in {v}.", "{E} came into the world in {v}.", "In {v} {e} was born.", "The year of birth of {e} is {v}."],
         ["When was {e} born?", "In what year was {e} born?", "What year was the birth of {e}?"]),
        (lambda r: r.pick(FOODS), ["{E} likes {v} best of all food.", "The favourite food of {e} is {v}.", "{E} loves to eat {v}.", "{V} is what {e} likes to eat.", "For food {e} likes {v}."],
         ["What food does {e} like?", "What is the favourite food of {e}?", "What does {e} love to eat?", "What does {e} like to eat?", "What food is it that {e} likes?"]),
        (lambda r: r.pick(SPORTS), ["{E} plays {v} every week.", "The favourite sport of {e} is {v}.", "{E} is good at {v}.", "{V} is the sport that {e} plays.", "Every day {e} goes to play {v}."],
         ["What sport does {e} play?", "What is the favourite sport of {e}?", "What is {e} good at?"]),
        (lambda r: r.pick(COLOURS) + " " + r.pick(ANIMALS), ["{E} has a {v}.", "{E} owns a {v}.", "A {v} belongs to {e}.", "{E} keeps a {v} in the house.", "The animal of {e} is a {v}."],
         ["What animal does {e} have?", "What animal does {e} own?", "What animal belongs to {e}?", "What animal does {e} keep?", "What is the animal of {e}?"]),
        (person, ["{E} is married to {v}.", "{E} and {v} are married."],
         ["To whom is {e} married?", "Who is married to {e}?"]),
    ]),
    "town": (coin_name, [
        (number, ["{E} has {v} people.", "{v} people live in {e}.", "There are {v} people in {e}.", "{E} is a town of {v} people.", "Of people {e} has {v}."],
         ["How many people live in {e}?", "How many people does {e} have?", "What is the number of people in {e}?", "How many people are there in {e}?"]),
        (lambda r: r.pick(GOODS), ["{E} is famous for its {v}.", "{E} is known for its {v}.", "People know {e} for its {v}.", "The {v} of {e} is famous.", "For its {v} {e} is known to all."],
         ["What is {e} famous for?", "What is {e} known for?", "For what do people know {e}?"]),
        (person, ["The mayor of {e} is {v}.", "{v} is the mayor of {e}.", "{E} has a mayor, {v}.", "As mayor of {e} they chose {v}.", "The town of {e} has {v} as its mayor."],
         ["Who is the mayor of {e}?", "Who is mayor in {e}?", "What is the name of the mayor of {e}?", "Who was made mayor of {e}?"]),
        (lambda r: r.pick(MONTHS), ["The fair in {e} is held in {v}.", "{E} holds its fair in {v}.", "Each {v} there is a fair in {e}.", "In {v} there is the fair of {e}.", "People go to the fair of {e} in {v}."],
         ["When is the fair in {e}?", "In what month does {e} hold its fair?", "What month is the fair in {e}?", "When do people go to the fair of {e}?"]),
        (lambda r: coin_name(r), ["{E} lies on the river {v}.", "The river {v} runs through {e}.", "The river at {e} is the {v}."],
         ["On what river does {e} lie?", "What river runs through {e}?", "What is the river at {e}?"]),
    ]),
    "river": (lambda r: "the river " + coin_name(r), [
        (lambda r: number(r) + " km", ["{E} is {v} long.", "The length of {e} is {v}.", "{E} runs for {v}."],
         ["How long is {e}?", "What is the length of {e}?", "For how many km does {e} run?"]),
        (lambda r: "lake " + coin_name(r), ["{E} ends in {v}.", "{E} flows into {v}.", "The water of {e} goes to {v}."],
         ["Where does {e} end?", "Into what does {e} flow?", "Where does the water of {e} go?"]),
    ]),
}
KINDS = [(30, "building"), (35, "person"), (28, "town"), (7, "river")]


def upper_first(s):
    return s[0].upper() + s[1:]


def sentence(r, entity, value, frames):
    return upper_first(r.pick(frames).format(e=entity, E=upper_first(entity), v=value, V=upper_first(value)))


class Facts:
    """Sources and what they say."""

    def __init__(self, r, n_sources):
        self.said = []      # (kind, entity, relation, value, source)
        self.known = set()
        self.texts = []
        kinds = [r.weighted(KINDS) for _ in range(n_sources)]
        if r.chance(0.5):   # rivals of one kind, told apart by their name alone
            kinds = [kinds[0]] * n_sources
        for k, kind in enumerate(kinds, 1):
            make, relations = RELATIONS[kind]
            entity = make(r)
            while entity in self.known:
                entity = make(r)
            self.known.add(entity)
            n = 1 if r.chance(0.55) else 2
            order = r.shuffled(range(len(relations)))[:n]
            parts = []
            for rel in order:
                value = relations[rel][0](r)
                parts.append(sentence(r, entity, value, relations[rel][1]))
                self.said.append((kind, entity, rel, value, k))
            self.texts.append(" ".join(parts))

    def unsaid(self, r):
        """A question that the sources do not answer: another attribute, or another entity."""
        kind, entity, _, _, _ = r.pick(self.said)
        make, relations = RELATIONS[kind]
        has = {rel for _, e, rel, _, _ in self.said if e == entity}
        lacks = [rel for rel in range(len(relations)) if rel not in has]
        if lacks and r.chance(0.5):
            return entity, relations[r.pick(lacks)][2]
        other = make(r)
        while other in self.known:
            other = make(r)
        return other, relations[r.pick(sorted(has))][2]


def prompt(r, texts, question):
    head = r.pick(["Sources:\n", "Sources:\n", ""])
    body = "\n".join("[%d] %s" % (k, t) for k, t in enumerate(texts, 1))
    tail = r.pick(["\n\n", "\n\nQuestion: ", "\n"])
    return head + body + tail + question


SAID = ["What do the sources say about {e}?", "Tell me all about {e}.", "What is said about {e}?", "What can I read about {e}?",
        "Quote what is said of {e}."]
WHICH = ["Which source is about {e}?", "Where can I read about {e}?", "Which of the sources names {e}?", "In which source is {e}?"]


def quote(r, f):
    """A question for a whole source, or for its number: it teaches finding, copying and citing at once."""
    known = {e: k for _, e, _, _, k in f.said}
    entity = r.pick(sorted(known))
    if r.chance(0.15):
        while entity in known:
            entity = RELATIONS[r.weighted(KINDS)][0](r)
        return r.pick(SAID + WHICH).format(e=entity), ABSTAIN
    k = known[entity]
    if r.chance(0.4):
        return r.pick(WHICH).format(e=entity), "Source [%d]." % k
    return r.pick(SAID).format(e=entity), "%s [%d]." % (f.texts[k - 1][:-1], k)


def questions(r, phase=1):
    """Messages: the sources with a question, then more questions about them. From phase 2 on quotes are asked for as well."""
    f = Facts(r, r.weighted([(1, 1), (5, 2), (5, 3), (2, 4)]))
    messages = []
    for i in range(r.weighted([(3, 1), (3, 2), (3, 3), (1, 4)]) + (phase > 1)):
        if phase > 1 and r.chance(0.4):
            q, answer = quote(r, f)
        elif r.chance(0.3):
            entity, frames = f.unsaid(r)
            q, answer = r.pick(frames).format(e=entity), ABSTAIN
        else:
            kind, entity, rel, value, k = r.pick(f.said)
            q, answer = r.pick(RELATIONS[kind][1][rel][2]).format(e=entity), "It is %s [%d]." % (value, k)
        if i == 0:
            q = prompt(r, f.texts, q)
        messages += [{"role": "user", "content": q}, {"role": "assistant", "content": answer}]
    return messages


SHORT = [("{e}", None), ("{e}: {v}", "What is {e}?"), ("{e} is {v}.", "What is {e}?"), ("{e} has {v}.", "What does {e} have?"),
         ("{v} is for {e}.", "What is for {e}?"), ("{e} likes {v}.", "What does {e} like?"), ("{e} - {v}", "What is it for {e}?")]
VALUES = [lambda r: r.pick(COLOURS), lambda r: r.pick(FOODS), lambda r: r.pick(GOODS), lambda r: r.pick(MADE_OF), number, year, coin_name]


def short(r):
    """Sources of a word or two, and many questions: what is where is learned on these first."""
    form, ask = r.pick(SHORT)
    make, draw = r.pick([person, coin_name, building]), r.pick(VALUES)
    facts = {}
    for _ in range(r.range(2, 5)):
        facts.setdefault(make(r), draw(r))
    names = list(facts)
    texts = [upper_first(form.format(e=e, v=facts[e])) for e in names]
    messages = []
    for i in range(r.range(2, 5)):
        if r.chance(0.25):
            entity = make(r)
            while entity in facts:
                entity = make(r)
            q, answer = (ask if ask and r.chance(0.6) else r.pick(WHICH)).format(e=entity), ABSTAIN
        else:
            entity = r.pick(names)
            k = names.index(entity) + 1
            if ask and r.chance(0.6):
                q, answer = ask.format(e=entity), "It is %s [%d]." % (facts[entity], k)
            else:
                q, answer = r.pick(WHICH).format(e=entity), "Source [%d]." % k
        if i == 0:
            q = prompt(r, texts, q)
        messages += [{"role": "user", "content": q}, {"role": "assistant", "content": answer}]
    return messages
