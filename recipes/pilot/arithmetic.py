"""Word problems of one to four steps, with worked steps ending in `#### n`.

A problem has several correct ways to its answer (other orders, sums taken
apart); the way is drawn at random, so that samples differ in their steps and a
majority over them means something."""

from words import CONTAINERS, MEN, NAMES, OBJECTS, coin, coin_name, pieces

START = [
    "{N} has {n} {o}.", "{N} had {n} {o}.", "There are {n} {o} in a {c}.", "There were {n} {o} in the {c}.",
    "{N} starts with {n} {o}.", "{N} started with {n} {o}.", "In the morning {N} has {n} {o}.",
    "A {c} holds {n} {o}.", "A {c} held {n} {o}.", "{N} owns {n} {o}.", "{N} owned {n} {o}.",
    "{N} collects {o} and has {n} of them.", "{N} keeps {n} {o} in a {c}.", "{N} kept {n} {o} in a {c}.",
    "{N} counts {n} {o}.", "On Monday {N} had {n} {o}.", "A shop has {n} {o}.", "A shop had {n} {o}.",
    "{n} {o} lie in a {c}.", "{n} {o} were in a {c}.", "At home {N} has {n} {o}.", "{N} picked {n} {o}.",
    "{N} sees {n} {o}.", "{N} saw {n} {o} in a {c}.", "{N} and {M} own {n} {o}.", "{n} {o} belong to {N}.",
    "{N} got {n} {o} from {M}.", "There are {n} {o} at the house of {N}.", "The {c} of {N} holds {n} {o}.",
    "{N} brings {n} {o} to school.", "{N} brought {n} {o}.", "{N} made {n} {o}.",
    "{N} and {M} keep {n} {o} in the house.", "On the shelf of {N} stand {n} {o}.", "At first there were {n} {o}.",
    "In the room of {N} there are {n} {o}.", "At first {N} had {n} {o}.", "Last month {N} owned {n} {o}.",
    "{N} begins with {n} {o}.",
    "In a {c} lie {n} {o}.", "At the beginning {N} counts {n} {o}.", "There are {n} {o} in the garden of {N}.",
    "One finds {n} {o} in a {c}.",
    "{N} and {M} found {n} {o} together.", "In the shop of {N} there were {n} {o}.", "To begin with, there are {n} {o}.",
]
GAIN = [
    "{P} buys {n} more.", "{P} bought {n} more.", "{P} finds {n} {o}.", "{P} found {n} more {o}.",
    "{M} gives {P} {n} {o}.", "{M} gave {P} {n} more.", "Then {P} picks {n} more.", "Later {P} got {n} more {o}.",
    "{P} gets {n} {o} from {M}.", "{P} got {n} {o} from {M}.", "{n} more {o} arrive.", "{n} more {o} came.",
    "{M} adds {n} {o}.", "{M} added {n} more.", "{P} collects {n} more {o}.", "{P} collected another {n}.",
    "Then {M} brings {n} {o}.", "Then {M} brought {n} more.", "{P} receives {n} more {o}.",
    "{P} received another {n} {o}.", "The next day {P} makes {n} more.", "After lunch {P} bought {n} {o}.",
    "{P} takes {n} more from {M}.", "{n} more {o} are brought by {M}.", "{n} {o} were given to {P} by {M}.",
    "{P} puts {n} more {o} into the {c}.", "{M} puts {n} more there.", "There come {n} more {o}.", "{P} picks up {n} {o}.",
    "{P} wins {n} {o}.", "{P} won {n} more.", "{n} {o} are added.", "{n} more were added.", "{M} sent {n} {o}.",
    "{M} gave {n} {o} to {P}.", "{M} gives {n} more {o} to {P}.", "{M} sold {n} {o} to {P}.", "{M} handed {P} {n} {o}.",
    "At noon {M} gave {P} another {n} {o}.", "Soon {M} sends {P} {n} {o}.", "{P} is given {n} {o} by {M}.",
    "{M} throws in {n} {o}.",
    "{n} more {o} are put there.", "Somebody brings {n} {o}.", "{M} also puts in {n} {o}.", "{P} borrows {n} {o} from {M}.",
    "{P} was sent {n} {o}.", "{n} new {o} come in.", "After this {n} {o} were found.", "In the street {P} finds {n} {o}.",
    "{P} grows {n} more {o}.", "{M} lends {P} {n} {o}.", "Another {n} {o} are delivered.", "{N} then gets {n} {o} from a friend.",
]
LOSS = [
    "{P} gives {n} {o} to {M}.", "{P} gave {n} to {M}.", "{P} loses {n} of them.", "{P} lost {n} {o}.",
    "{P} sells {n} {o}.", "{P} sold {n} of them.", "{M} takes {n} {o}.", "{M} took {n} of the {o}.",
    "{n} of them go to {M}.", "{M} gets {n} of the {o}.", "{n} {o} were given to {M}.", "{n} of the {o} fall and break.",
    "{P} takes {n} of them away.", "{M} buys {n} of them from {P}.", "{n} {o} are thrown away by {P}.", "{M} uses {n} {o}.",
    "{n} {o} break.", "{n} of them were broken.", "{P} throws away {n}.", "{P} threw {n} {o} away.",
    "{P} uses {n} of the {o}.", "{P} used {n}.", "{P} drops {n} of them.", "{P} dropped {n} {o}.",
    "Then {n} {o} are taken away.", "Then {n} were taken away.", "{P} gives away {n} {o}.",
    "{P} gave {n} of them away.", "{n} of the {o} are sold.", "{n} {o} were sold.", "{n} {o} get lost.",
    "Later {P} lost {n}.", "{P} sends {n} {o} to {M}.", "{P} sent {n} of them to {M}.",
    "{N} gave {M} {n} {o}.", "{N} gives {M} {n} of the {o}.", "{N} sold {M} {n} {o}.", "{N} handed {M} {n} of them.",
    "At noon {N} gave {M} {n} {o}.",
    "Soon {N} sends {M} {n} {o}.", "{M} is given {n} {o} by {N}.", "{M} borrows {n} {o} from {N}.", "{M} bought {n} {o} from {N}.",
    "{M} carried {n} of the {o} off.", "{n} of them go bad.", "Somebody steals {n} {o}.", "{n} {o} fell into the river.",
    "{M} was sent {n} of the {o}.", "{N} lends {M} {n} {o}.", "In the street {P} loses {n} {o}.", "After this {n} {o} were lost.",
    "{N} eats {n} of them.", "{P} sold {n} {o} at the market.", "{n} of the {o} turn out to be bad.", "{N} burns {n} of the {o}.",
    "{N} hides {n} {o} from {M} elsewhere.", "{n} {o} were stolen.", "{M} ate {n} of them.", "{P} eats {n} {o}.",
]
# X hands some over to Y: who of them is the owner decides whether it adds or takes away.
HAND = [
    "{X} gave {Y} {n} {o}.", "{X} gave {n} {o} to {Y}.", "{X} sold {n} {o} to {Y}.", "{X} sold {Y} {n} {o}.",
    "{Y} bought {n} {o} from {X}.",
    "{Y} took {n} {o} from {X}.", "{Y} got {n} {o} from {X}.", "{X} sent {Y} {n} {o}.", "{X} sent {n} {o} to {Y}.",
    "{X} lent {Y} {n} {o}.",
    "{Y} borrowed {n} {o} from {X}.", "{X} handed {n} {o} to {Y}.", "{X} passed {Y} {n} {o}.", "{Y} received {n} {o} from {X}.",
    "{X} gives {Y} {n} {o}.", "{X} sells {n} {o} to {Y}.", "{Y} buys {n} {o} from {X}.", "{Y} gets {n} {o} from {X}.",
    "{X} sends {Y} {n} {o}.",
    "{Y} won {n} {o} from {X}.", "{X} lost {n} {o} to {Y}.", "{n} {o} went from {X} to {Y}.", "{Y} was given {n} {o} by {X}.",
    "{X} returned {n} {o} to {Y}.", "{Y} asked {X} for {n} {o} and got them.", "{X} left {Y} {n} {o}.",
    "{Y} takes {n} {o} from {X}.",
]
LEFT = [
    "How many {o} does {N} have now?", "How many {o} are left?", "How many {o} are there now?",
    "How many {o} does {N} have in the end?", "How many are there in the end?",
    "How many {o} did {N} have then?", "How many {o} remain?", "What is the number of {o} now?",
    "How many {o} are there in all?", "How many does {N} have now?", "How many {o} has {N} got?",
    "Find the number of {o}.", "How many {o} are there at the end?", "How many {o} does this leave?",
    "How many {o} is it now?", "Tell me how many {o} there are.", "So how many {o} are left?",
    "How many {o} are there then?", "What number of {o} is left?", "What number of {o} does {N} have?",
    "How many {o} make that in the end?",
    "Now how many {o} are there?", "What is the number of {o} in the end?", "How many {o} are there after all this?",
    "How many {o} stay?",
]
GROUPS = [
    "There are {k} {cs} with {n} {o} in each.", "There were {k} {cs} with {n} {o} each.",
    "{N} has {k} {cs} of {n} {o}.", "{N} had {k} {cs} of {n} {o} each.", "{N} fills {k} {cs} with {n} {o} each.",
    "{N} filled {k} {cs} with {n} {o} each.", "Each {c} holds {n} {o} and there are {k} {cs}.",
    "Each of {k} {cs} holds {n} {o}.", "{k} {cs} hold {n} {o} each.", "{N} buys {k} {cs} of {n} {o}.",
    "{N} bought {k} {cs}, each with {n} {o}.", "A {c} holds {n} {o}. {N} has {k} {cs}.",
    "{N} makes {n} {o} a day for {k} days.", "{N} made {n} {o} each day for {k} days.",
    "Every day {N} picks {n} {o}, for {k} days.", "There are {k} rows of {n} {o}.",
    "There were {k} rows with {n} {o} in each row.", "{N} sees {k} {cs}, and {n} {o} are in each of them.",
    "{M} gives {N} {k} {cs} of {n} {o} each.", "In each of {k} {cs} there are {n} {o}.", "Each {c} has {n} {o}. {N} owns {k} {cs}.",
    "{N} picks {n} {o} from each of {k} trees.", "{N} and {k1} friends have {n} {o} each.",
    "The house has {k} {cs} and every {c} holds {n} {o}.", "{N} sees {k} rows, and every row has {n} {o}.",
    "{M} has {k} {cs} and every one of them has {n} {o}.",
    "On the table stand {k} {cs} with {n} {o} in each one.", "{N} sells {k} {cs} of {n} {o} each.",
    "{N} brings {k} {cs}, and there are {n} {o} in each {c}.",
    "{k} friends of {N} have {n} {o} each.", "In the field are {k} lines of {n} {o} each.",
    "{M} carried {k} {cs} with {n} {o} in every {c}.",
    "In the school there are {k} {cs}. Each one has {n} {o}.", "For {k} weeks {N} gets {n} {o} a week.",
]
TOTAL = [
    "How many {o} are there?", "How many {o} are there in all?", "How many {o} is that?", "How many {o} does {N} have then?",
    "What is the total number of {o}?", "How many {o} are there together?", "Find the number of {o}.",
    "How many {o} did {N} have?", "How many {o} are that?", "How many {o} does that make in all?", "Tell me the number of {o}.",
]
SHARE = [
    "{N} shares {n} {o} among {k} friends.", "{N} shared {n} {o} among {k} friends.",
    "{n} {o} are put into {k} {cs}, the same number in each.", "{n} {o} were put into {k} {cs} evenly.",
    "{N} puts {n} {o} into {k} equal groups.", "{N} divides {n} {o} evenly among {k} children.",
    "{N} divided {n} {o} among {k} people.", "{k} children share {n} {o} equally.", "{k} friends shared {n} {o} evenly.",
    "{n} {o} fill {k} {cs} evenly.", "{N} has {n} {o} and {k} friends, and gives each friend the same number.",
    "{N} had {n} {o} and put them into {k} {cs} equally.", "{n} {o} are for {k} children, who all get the same number.",
    "{N} wants to give {n} {o} to {k} people, the same number to each.",
    "There are {n} {o} for {k} {cs}. Each {c} gets the same number.",
    "{k} people get {n} {o} in all, each the same.", "{N} has {n} {o} and splits them evenly between {k} children.",
    "{n} {o} go into {k} {cs}, evenly.", "{N} packs {n} {o} in {k} {cs}. All hold the same number.",
    "{n} {o} were split among {k} friends equally.",
]
EACH = [
    "How many {o} does each get?", "How many {o} are in each?", "How many {o} did each one get?",
    "How many are there in each?", "How many {o} is that for each?", "What does each one get?",
    "How many {o} go to each?", "How many {o} are there for each one?", "How many {o} are there in every one?",
    "How many does each of them get?",
]
PRICE = [
    "One of the {o} costs {n} coins. {N} buys {k}.", "The {o} cost {n} coins each. {N} buys {k} of them.",
    "{N} buys {k} {o} for {n} coins each.", "{N} bought {k} {o} at {n} coins each.",
    "{N} bought {k} {o}. Each cost {n} coins.", "In a shop {o} cost {n} coins each. {N} wants {k}.",
    "{N} went to buy {k} {o} that cost {n} coins each.", "For each of {k} {o} {N} paid {n} coins.",
    "{k} {o} were bought, each for {n} coins.",
    "{N} sells {k} {o} at {n} coins each.", "{N} sold {k} {o} for {n} coins each.",
]
COST = [
    "How many coins is that?", "How many coins does {N} need?", "What is the price in coins?", "How much is that?",
    "How many coins are that in all?", "What do they cost?",
]
PAY = ["{N} pays with {t} coins.", "{N} paid {t} coins.", "{N} had {t} coins.", "{N} has {t} coins.",
"{N} gives the shop {t} coins."]
CHANGE = ["How many coins are left?", "How many coins does {N} get back?", "How many coins did {N} have left?",
          "How many coins remain?", "How much money is left?",
          "How many coins has {N} then?", "What is left of the coins?", "How many coins are there after that?"]
MORE = [
    "{N} sees {n} {o}, {M} sees {k} more.", "{M} has {k} {o} more than {N}, who has {n} {o}.",
    "{N} buys {n} {o}. {M} buys {k} more than {N} does.",
    "{N} has {n} {o}. {M} has {k} more than {N}.", "{N} had {n} {o} and {M} had {k} more.",
    "{N} picked {n} {o}. {M} picked {k} more than {N}.", "{N} made {n} {o} and {M} made {k} more than that.",
    "{N} caught {n} {o}, and {M} caught {k} more.", "{N} got {n} {o} and {M} got {k} more.",
    "Yesterday {N} lost {n} {o}. {M} lost {k} more than {N}.",
    "{N} sold {n} {o}, while {M} sold {k} more.", "{N} owns {n} {o}, and {M} owns {k} more than that.",
]
FEWER = [
    "{N} sees {n} {o}, {M} sees {k} fewer.", "{M} has {k} {o} fewer than {N}, who has {n} {o}.",
    "{N} buys {n} {o}. {M} buys {k} fewer than {N} does.",
    "{N} has {n} {o}. {M} has {k} fewer than {N}.", "{N} had {n} {o} and {M} had {k} fewer.",
    "{N} picked {n} {o}. {M} picked {k} fewer than {N}.", "{N} made {n} {o} and {M} made {k} fewer than that.",
    "{N} caught {n} {o}, and {M} caught {k} fewer.", "{N} got {n} {o} and {M} got {k} fewer.",
    "Yesterday {N} lost {n} {o}. {M} lost {k} fewer than {N}.",
    "{N} sold {n} {o}, while {M} sold {k} fewer.", "{N} owns {n} {o}, and {M} owns {k} fewer than that.",
]
TIMES = [
    "{N} sees {n} {o}, {M} sees {w} as many.", "{M} has {w} as many {o} as {N}, who has {n}.",
    "{N} buys {n} {o}. {M} buys {w} as many.",
    "{N} has {n} {o}. {M} has {w} as many.", "{N} had {n} {o} and {M} had {w} as many.",
    "{N} picked {n} {o}. {M} picked {w} as many as {N}.", "{N} made {n} {o} and {M} made {w} as many as that.",
    "{N} caught {n} {o}, and {M} caught {w} as many.", "{N} got {n} {o} and {M} got {w} as many.",
    "Yesterday {N} lost {n} {o}. {M} lost {w} as many.",
    "{N} sold {n} {o}, while {M} sold {w} as many.", "{N} owns {n} {o}, and {M} owns {w} as many.",
]
OTHER = ["How many {o} has {M}?", "How many does {M} have?", "How many {o} is that for {M}?", "How many {o} did {M} have?"]
BOTH = ["How many {o} do they have together?", "How many do {N} and {M} have in all?", "How many {o} is that together?",
        "How many {o} did they have in all?", "What is the total number of {o}?",
        "How many {o} are that for {N} and {M} in all?", "How many {o} do the two have in all?", "How many {o} are there together?",
        "What number of {o} do both have?", "Together, how many {o} is that?"]
WALK = [
    "{N} walks {n} km a day for {k} days.", "{N} drives {n} km an hour for {k} hours.",
    "A train goes {n} km an hour for {k} hours.",
    "{N} rode {n} km each day for {k} days.", "A bus went {n} km an hour. It drove for {k} hours.",
]
FAR = ["How many km is that?", "How far is that in km?", "How many km did it make?", "How far did {N} go?",
"What is the distance in km?"]
BEFORE = ["Yesterday", "Today", "In the afternoon", "Then", "Later", "On Sunday", "In spring", "At noon", "Now", "Next",
          "One day", "This week", "Last year", "In the market", "After school", "At night", "So", "Then", "After this",
          "In the end", "Last Friday", "In the evening", "On the way home", "At school", "In summer", "One morning",
          "A day later", "Soon"]
AFTER = ["in the afternoon", "yesterday", "today", "at home", "on Friday", "in the park", "later", "at school", "on the way home",
         "this week", "after lunch", "at the market", "in the kitchen", "last night"]
# What the third part of the training adds to a list: by the list's name.
WIDER = {
    "GAIN": [
        "{n} {o} were put in.", "{n} {o} were brought along.", "{n} more {o} were delivered.", "{n} {o} were found.",
        "{n} more {o} were bought.", "{n} {o} were made.", "{P} earned {n} {o}.", "{P} was handed {n} {o} by {M}.",
        "{P} ordered {n} more {o}.", "{P} gathered {n} {o}.", "{P} discovered {n} {o}.", "{P} dug up {n} {o}.",
        "{n} more {o} turned up.", "{n} more {o} were handed in.", "{M} passed {n} {o} on to {P}.", "{M} mailed {P} {n} {o}.",
        "{M} returned {n} {o} to {P}.", "{P} unpacked {n} more {o}.",
    ],
    "LOSS": [
        "{n} {o} were eaten.", "{n} of the {o} were burnt.", "{n} {o} were spoiled.", "{n} of them were used up.",
        "{n} {o} were crushed.", "{n} {o} were torn.", "{n} {o} were sent away.", "{n} {o} were carried off.",
        "{P} spoiled {n} of them.", "{P} broke {n} {o}.", "{P} ruined {n} of the {o}.", "{P} left {n} {o} behind.",
        "{N} mailed {n} {o} to {M}.", "{N} passed {n} of them on to {M}.", "{P} donated {n} {o}.", "{P} handed out {n} {o}.",
        "{n} {o} disappeared.", "{n} {o} were missing.", "{N} returned {n} {o} to {M}.", "{P} traded {n} of them away.",
    ],
    "BEFORE": [
        "Afterwards", "A little later", "Meanwhile", "During the day", "Before supper", "That day", "Some time later",
        "On the same day", "During the night", "On the road", "In the yard", "By chance", "A week later", "This time",
    ],
    "AFTER": [
        "afterwards", "a little later", "meanwhile", "during the day", "before supper", "that day", "some time later", "since then",
        "on the same day", "during the night", "on the road", "in the yard", "by chance", "at the end of the day", "in the meantime",
        "over the week",
    ],
}
TIMES_WORDS = {2: "twice", 3: "three times", 4: "four times", 5: "five times"}


FRAMES = {"GAIN": GAIN, "LOSS": LOSS, "BEFORE": BEFORE, "AFTER": AFTER}


def coined(r):
    """A thing's made-up name."""
    return coin(r, False) if r.chance(0.4) else "".join(pieces(r))


class Scene:
    """Who, what and where of one problem."""

    def __init__(self, r, phase=1):
        self.r = r
        self.wide = phase == 3
        self.N = coin_name(r) if r.chance(0.25) else r.pick(NAMES)
        self.M = self.N
        while self.M == self.N:
            self.M = coin_name(r) if r.chance(0.25) else r.pick(NAMES)
        self.o = coined(r) + "s" if r.chance(0.2) else r.pick(OBJECTS)
        self.c, self.cs = r.pick(CONTAINERS)

    def frames(self, name):
        return FRAMES[name] + WIDER[name] if self.wide else FRAMES[name]

    def say(self, frames, **kw):
        f = self.r.pick(frames)
        p = "He" if self.N in MEN else "She"
        if self.r.chance(0.6) or not f.startswith("{P}"):
            p = self.N
        return f.format(N=self.N, M=self.M, P=p, o=self.o, c=self.c, cs=self.cs, **kw)

    def event(self, kind, before, n):
        """Something that adds or takes away n (GAIN, LOSS). Who gives to whom says nothing where the owner was not named before."""
        frames = self.frames(kind)
        f = self.r.pick(frames)
        while self.N not in before and "{M}" in f and ("{N}" in f or "{P}" in f):
            f = self.r.pick(frames)
        return self.tell([f], n=n)

    def tell(self, frames, **kw):
        """As say, with a time or a place before or behind it now and then."""
        s = self.say(frames, **kw)
        if self.r.chance(0.3 if self.wide else 0.2) and (s[0].isdigit() or s.startswith((self.N, self.M))):
            return self.r.pick(self.frames("BEFORE")) + " " + s
        if self.r.chance(0.3 if self.wide else 0.12) and s.count(".") == 1:
            return s[:-1] + " " + self.r.pick(self.frames("AFTER")) + "."
        return s


def walk(start, changes):
    """Steps of start + c1 + c2 …, in the given order; None when it goes below zero."""
    steps, at = [], start
    for c in changes:
        to = at + c
        if to < 0:
            return None
        steps.append((at, "+" if c > 0 else "-", abs(c), to))
        at = to
    return steps


def chain_ways(start, changes):
    """All ways to do a chain: any order of the changes; first the changes among themselves."""
    ways = [walk(start, changes)]
    if len(changes) == 2:
        a, b = changes
        ways.append(walk(start, [b, a]))
        if a > 0 and a + b >= 0:
            ways.append(walk(a, [b]) + walk(start, [a + b]))
        elif a < 0 and b < 0:
            ways.append(walk(-a, [-b]) + walk(start, [a + b]))
        elif a < 0 < b and a + b >= 0:
            ways.append(walk(b, [a]) + walk(start, [a + b]))
    if len(changes) == 3:
        a, b, c = changes
        ways += [walk(start, x) for x in ([a, c, b], [b, a, c], [c, a, b])]
    if len(changes) == 4:
        a, b, c, d = changes
        ways += [walk(start, x) for x in ([b, a, d, c], [a, c, b, d], [d, c, b, a], [c, d, a, b])]
    return [w for w in ways if w]


def spread(r, steps, p, hundreds=False):
    """Takes some of the steps apart: (hundreds,) tens and ones, or a product through ten."""
    out = []
    for a, op, b, c in steps:
        ones = b % 10
        if op == "+" and r.chance(0.15):
            a, b = b, a
            ones = b % 10
        if hundreds and op in "+-" and b > 100 and b % 100 and r.chance(p):
            mid = a + b // 100 * 100 if op == "+" else a - b // 100 * 100
            out += [(a, op, b // 100 * 100, mid)] + spread(r, [(mid, op, b % 100, c)], p)
        elif op in "+-" and b > 10 and ones and r.chance(p):
            mid = a + (b - ones) if op == "+" else a - (b - ones)
            out += [(a, op, b - ones, mid), (mid, op, ones, c)]
        elif op == "*" and b > 10 and b % 10 and r.chance(p):
            out += [(a, "*", b - ones, a * (b - ones)), (a, "*", ones, a * ones), (a * (b - ones), "+", a * ones, c)]
        elif op == "*" and r.chance(0.3):
            out.append((b, op, a, c))
        else:
            out.append((a, op, b, c))
    return out


def work(r, steps, hundreds=False):
    steps = spread(r, steps, r.pick([0.0, 0.0, 0.5, 1.0]), hundreds)
    lines = ["%d %s %d = %d" % s for s in steps]
    lines.append("#### %d" % steps[-1][3])
    return "\n".join(lines)


def small(r):
    return r.range(2, 12) if r.chance(0.3) else r.range(5, 49)


def large(r):
    return r.range(11, 99) if r.chance(0.4) else r.range(60, 300)


def chain(r, s, n_changes, start=(4, 90), change=small):
    start = r.range(*start)
    at, changes, text = start, [], [s.tell(START, n=start)]
    for _ in range(n_changes):
        d = change(r)
        if r.chance(0.5) and at - d >= 0:
            text.append(s.event("LOSS", " ".join(text), d))
            d = -d
        else:
            text.append(s.event("GAIN", " ".join(text), d))
        changes.append(d)
        at += d
    text.append(s.say(LEFT))
    return " ".join(text), r.pick(chain_ways(start, changes))


def long_product(r):
    return r.range(2, 9), r.range(12, 45)


def product(r):
    return (r.range(2, 9), r.range(11, 19)) if r.chance(0.25) else (r.range(2, 10), r.range(2, 12))


def exchange(r, s):
    """One or two events between the owner and somebody else, in either direction."""
    k, n = r.range(2, 10), r.range(2, 12)
    counted = r.chance(0.25)
    at = k * n if counted else r.range(4, 90)
    text = [s.say(["{N} has {k} {cs} with {n} {o} each.", "{N} had {k} {cs} of {n} {o}."], k=k, n=n) if counted else
            s.tell([f for f in START if "{N}" in f and "{M}" not in f], n=at)]
    start, changes = at, []
    for _ in range(r.range(1, 2)):
        d = small(r)
        owner, other = s.N, s.M
        lost = r.chance(0.5) and d <= at
        x, y = (owner, other) if lost else (other, owner)
        text.append(s.tell(HAND, n=d, X=x, Y=y))
        changes.append(-d if lost else d)
        at += changes[-1]
    text.append(s.say(LEFT))
    way = r.pick(chain_ways(start, changes))
    return " ".join(text), ([(k, "*", n, start)] if counted else []) + way


def groups(r, s, frames, question, product=product):
    k, n = product(r)
    return s.tell(frames, k=k, n=n, k1=k - 1) + " " + s.say(question), [(k, "*", n, k * n)]


def groups_change(r, s, product=product, change=small):
    k, n = product(r)
    steps = [(k, "*", n, k * n)]
    first, d = s.tell(GROUPS, k=k, n=n, k1=k - 1), change(r)
    if r.chance(0.5) and k * n - d >= 0:
        text, d = s.event("LOSS", first, d), -d
    else:
        text = s.event("GAIN", first, d)
    return " ".join([first, text, s.say(LEFT)]), steps + walk(k * n, [d])


def two_groups(r, s):
    k, n = product(r)
    k2, n2 = r.range(2, 6), r.range(2, 10)
    text = "{N} has {k} {cs} with {n} {o} and {k2} {cs2} with {n2} {o}."
    cs2 = r.pick(CONTAINERS)[1]
    text = s.say([text, "There are {k} {cs} of {n} {o} and {k2} {cs2} of {n2} {o}.",
                  "{N} filled {k} {cs} with {n} {o} each and {k2} {cs2} with {n2} {o} each."], k=k, n=n, k2=k2, n2=n2, cs2=cs2)
    a, b = (k, "*", n, k * n), (k2, "*", n2, k2 * n2)
    steps = [a, b, (k * n, "+", k2 * n2, k * n + k2 * n2)]
    if r.chance(0.5):
        steps = [b, a, (k2 * n2, "+", k * n, k * n + k2 * n2)]
    return text + " " + s.say(TOTAL), steps


def share(r, s):
    k, n = r.range(2, 10), r.range(2, 12)
    return s.say(SHARE, k=k, n=k * n) + " " + s.say(EACH), [(k * n, "/", k, n)]


def chain_share(r, s):
    """Something is added or lost, then the rest is shared."""
    k, n = r.range(2, 9), r.range(2, 12)
    d = small(r)
    if r.chance(0.5) and d < k * n:
        start, step = k * n - d, d
    else:
        start, step = k * n + d, -d
    first = s.tell(START, n=start)
    text = s.event("GAIN" if step > 0 else "LOSS", first, d)
    end = s.say(["{N} shares the {o} among {k} friends.", "The {o} are then put into {k} {cs}, the same number in each.",
                 "{N} divides them evenly among {k} children.", "Then {k} friends share the {o} equally."], k=k)
    return (" ".join([first, text, end, s.say(EACH)]),
            walk(start, [step]) + [(k * n, "/", k, n)])


def price_change(r, s):
    k, n = product(r)
    t = k * n + r.range(1, 40)
    first, second = s.say(PAY, t=t), s.say(PRICE, k=k, n=n)
    text = second + " " + first if r.chance(0.5) else first + " " + second
    return text + " " + s.say(CHANGE), [(k, "*", n, k * n), (t, "-", k * n, t - k * n)]


def compare(r, s, both):
    kind = r.below(3)
    n = r.range(5, 60)
    if kind == 0:
        k = small(r)
        text, step = s.say(MORE, n=n, k=k), (n, "+", k, n + k)
    elif kind == 1:
        k = r.range(2, n - 1)
        text, step = s.say(FEWER, n=n, k=k), (n, "-", k, n - k)
    else:
        n, k = r.range(2, 20), r.range(2, 5)
        text, step = s.say(TIMES, n=n, w=TIMES_WORDS[k]), (n, "*", k, n * k)
    if not both:
        return text + " " + s.say(OTHER), [step]
    last = (n, "+", step[3], n + step[3])
    if r.chance(0.5):
        last = (step[3], "+", n, n + step[3])
    return text + " " + s.say(BOTH), [step, last]


KINDS = [
    (10, lambda r, s: chain(r, s, 1)),
    (22, lambda r, s: chain(r, s, 2)),
    (8, lambda r, s: chain(r, s, 3)),
    (8, lambda r, s: groups(r, s, GROUPS, TOTAL)),
    (3, lambda r, s: groups(r, s, WALK, FAR)),
    (4, lambda r, s: groups(r, s, PRICE, COST)),
    (12, groups_change),
    (5, two_groups),
    (5, share),
    (7, chain_share),
    (8, price_change),
    (5, lambda r, s: compare(r, s, False)),
    (8, lambda r, s: compare(r, s, True)),
]
HUNDREDS = (60, 600)
LARGE = [                   # what the later parts of the training add
    (16, exchange),
    (5, lambda r, s: chain(r, s, 1, HUNDREDS, large)),
    (16, lambda r, s: chain(r, s, 2, HUNDREDS, large)),
    (12, lambda r, s: chain(r, s, 3, HUNDREDS, large)),
    (5, lambda r, s: chain(r, s, 4, HUNDREDS, large)),
    (5, lambda r, s: groups(r, s, GROUPS, TOTAL, long_product)),
    (9, lambda r, s: groups_change(r, s, long_product, large)),
]


def problem(r, phase=1):
    """(question, worked answer)"""
    text, steps = r.weighted(KINDS if phase == 1 else KINDS + LARGE)(r, Scene(r, phase))
    return text, work(r, steps, phase > 1)


def drill(r, phase=1):
    """Bare sums: what the steps of a problem are made of."""
    if phase == 3 and r.chance(0.25):
        a, b = r.range(0, 12), r.range(2, 60)
        return (a + b, "-", b, a)
    if phase > 1 and r.chance(0.5):
        a, b = r.range(60, 700), large(r)
        if r.chance(0.5):
            return (a, "+", b, a + b)
        return (max(a, b), "-", min(a, b), max(a, b) - min(a, b))
    kind = r.below(8)
    if kind < 3:
        a, b = r.range(2, 130), small(r)
        step = (a, "+", b, a + b)
    elif kind < 6:
        b = small(r)
        a = b + r.range(0, 110)
        step = (a, "-", b, a - b)
    elif kind == 6:
        k, n = product(r)
        step = (k, "*", n, k * n)
    else:
        k, n = r.range(2, 10), r.range(2, 12)
        step = (k * n, "/", k, n)
    return step
