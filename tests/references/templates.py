#!/usr/bin/env python3
"""Chat templates against Python's Jinja2, set up as model publishers run it.

Makes random expressions and templates from a seed, renders each here and in
template_cases (a program of the test build), and compares text, or that both
refuse. Needs Jinja2 3.1 (package python3-jinja2).

    templates.py [--program TEMPLATE_CASES] [--cases N] [--seed S] [--show N]

TEMPLATE_CASES lies beside the tests of the build that $WATT belongs to.
"""
# requires: jinja2
import argparse
import copy
import datetime
import json
import os
import random
import re
import subprocess
import sys
import warnings

import jinja2
import jinja2.ext
import jinja2.nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_pass")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _pass(self, caller):
        return caller()


def environment():
    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent,
                          separators=separators, sort_keys=sort_keys)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def strftime_now(form):
        return datetime.datetime(2026, 7, 26, 12, 0).strftime(form)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                        extensions=["jinja2.ext.loopcontrols", Generation])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    return env


ENV = environment()

VARS = {
    "s": "Hello, World", "t": " \tpadded é中文🚀 \n", "u": "", "w": "a,b,,c", "long": "The quick brown fox "
    "jumps over the lazy dog; it's \"quoted\" <b>&amp;</b>", "lines": "one\ntwo\r\n\nthree",
    "sp": "straße ΣΑΣ ǅ ﬁ İ", "num": "42", "fl": " 3.50 ", "neg": "-17",
    "i": 7, "j": -3, "z": 0, "f": 2.5, "g": -0.125, "big": 1e20, "one": 1, "yes": True, "no": False,
    "n": None, "l": [3, 1, 2], "e": [], "m": [1, "a", None, 2.5, True], "ss": ["b", "A", "c", "a"],
    "ll": [[1, 2], [3, 4], []], "d": {"a": 1, "b": "two", "C": [1, 2], "items": 5},
    "dd": {"x": {"y": {"z": "deep"}}, "1": 2}, "ed": {},
    "os": [{"name": "bob", "age": 30, "tag": {"k": 1}}, {"name": "Al", "age": 25},
           {"name": "cy", "age": 30, "tag": {"k": 2}}],
}

CONSTS = ["0", "1", "2", "-1", "3", "10", "1.5", "0.0", "-2.25", "1e3", "''", "'a'", "'ab'", "' x '", "'é'",
          "','", "none", "true", "false", "[]", "[1,2]", "['x','y']", "{}", "{'k':'v'}", "(1,2)", "()", "'42'",
          "'%s'", "'{}'", "'\\n'", "'o'", "'l'"]
NAMES = list(VARS) + ["missing", "nope"]
BINARY = ["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", "<=", ">", ">=", "and", "or", "in", "not in"]
FILTERS = ["abs", "attr('name')", "attr('upper')", "batch(2)", "batch(2,'-')", "capitalize", "center(11)", "count", "d('D')", "default('D',true)",
           "dictsort", "dictsort(true)", "dictsort(by='value')", "dictsort(reverse=true)", "e", "escape",
           "filesizeformat", "first", "float", "float(9.5)", "forceescape", "format(1)", "format('a','b')", "groupby('age')",
           "groupby('age',default=0)", "groupby('name', case_sensitive=true)",
           "indent", "indent(2,true)", "indent(width=3,blank=true)", "indent('>>')", "int", "int(5)", "int(0,16)", "int(base=8)", "items", "join",
           "join(', ')", "join('-', attribute='name')", "last", "length", "list", "lower", "map('upper')", "map('string')",
           "map(attribute='name')", "map(attribute='tag.k', default='?')", "map('int', 3)", "map('default','q')", "map('tojson')",
           "map('length')", "max", "min", "max(attribute='age')", "min(case_sensitive=true)", "reject", "reject('none')", "rejectattr('tag')",
           "rejectattr('age','eq',30)", "replace('a','b')", "replace('l','LL',1)", "replace('','-')", "reverse", "round", "round(1)",
           "round(1,'floor')", "round(method='ceil')", "round(-1)", "safe", "select", "select('string')", "select('odd')", "select('in',[1,'a'])", "selectattr('tag')",
           "selectattr('age','gt',26)", "selectattr('tag','defined')", "slice(2)", "slice(3,'x')", "sort", "sort(reverse=true)",
           "sort(attribute='age')", "sort(attribute='age,name')", "sort(case_sensitive=true)", "string", "striptags", "sum",
           "sum(attribute='age')", "sum(start=10)", "title", "tojson", "tojson(indent=2)", "tojson(separators=(',',':'))",
           "tojson(sort_keys=true)", "tojson(ensure_ascii=true)", "tojson(indent=0)", "trim", "trim('ab ')", "truncate(10)", "truncate(9,true)",
           "truncate(8,false,'..',0)", "unique", "unique(true)", "unique(attribute='age')", "upper", "urlencode", "wordcount",
           "wordwrap(10,break_on_hyphens=false)", "wordwrap(5,false,break_on_hyphens=false)", "xmlattr", "xmlattr(false)", "length", "list", "string", "first", "join(',')", "tojson"]
TESTS = ["boolean", "callable", "defined", "undefined", "divisibleby 3", "divisibleby(0)", "eq 1", "equalto('a')", "escaped", "even", "odd",
         "false", "true", "filter", "float", "ge 1", "gt(2)", "in [1,'a',2.5]", "in 'abc'", "integer", "iterable", "le 0", "lower", "upper",
         "lt 2", "mapping", "ne none", "none", "number", "sameas none", "sameas true", "sequence", "string", "test", "not none", "not defined",
         "not string", "eq(s)", "in d"]
METHODS = ["capitalize()", "casefold()", "center(9,'*')", "center(8)", "count('l')", "count('')", "count('l',3,-1)", "endswith('d')", "endswith(('x','d'))", "endswith('o',0,5)",
           "expandtabs(4)", "find('o')", "find('o',5)", "find('zz')", "format(1,2)", "index('l')", "isalnum()", "isalpha()", "isascii()", "isdecimal()",
           "isdigit()", "isidentifier()", "islower()", "isnumeric()", "isprintable()", "isspace()", "istitle()", "isupper()", "join(ss)", "join(l)",
           "ljust(9,'.')", "lower()", "lstrip()", "lstrip('He')", "partition(',')", "removeprefix('He')", "removesuffix('ld')", "replace('l','L')",
           "replace('l','',2)", "replace('','-')", "rfind('l')", "rfind('o',0,6)", "rindex('o')", "rjust(20,'é')", "rpartition(',')", "rsplit(',')", "rsplit(None,1)", "rsplit(',',1)",
           "rstrip()", "rstrip('d\\n ')", "split()", "split(',')", "split(None,1)", "split(' ',1)", "split(maxsplit=1)", "split(sep='o')", "splitlines()", "splitlines(true)",
           "startswith('H')", "startswith(('a',''))", "strip()", "strip(' \\n\\t')", "strip('Hd')", "swapcase()", "title()", "upper()", "zfill(6)", "zfill(20)",
           "get('a')", "get('q')", "get('q','dflt')", "get('a',1)", "items()", "keys()", "values()", "copy()", "pop()", "append(1)", "update({})",
           "index(1)", "index(2)", "count(1)", "sort()", "reverse()", "extend([1])", "get()", "a", "b", "name", "real", "x.y.z", "x['y']", "items", "nope", "nope.nope",
           "__class__", "_x", "0", "1", "format(x=1)", "items()|list", "keys()|list", "values()|list", "lower().upper()", "encode()", "setdefault('a',1)", "popitem()", "clear()", "insert(0,1)", "remove(1)"]
PERCENTS = ["'%s|%s' % (X, Y)", "'%d' % X", "'%5.2f|' % X", "'%-8s|%8s' % (X, Y)", "'%r' % (X,)", "'%x %o' % (X, X)", "'%e %g' % (X, Y)", "'%%' % X", "'%(a)s %(b)s' % d",
            "'%05d' % X", "'%+d % d' % (X, Y)", "'%.3s' % X", "'%c' % X", "'%*d' % (5, X)", "'%i%%' % X", "'%#x' % X", "'%s' % X", "'%a' % (X,)"]
FORMATS = ["'{} {}'.format(X, Y)", "'{0}{1}{0}'.format(X, Y)", "'{a}-{b}'.format(a=X, b=Y)", "'{:>8}|'.format(X)", "'{:^9}|{:<5}|'.format(X, Y)", "'{:05d}'.format(X)",
           "'{:.2f}'.format(X)", "'{:,}'.format(X)", "'{!r:>10}'.format(X)", "'{0.name}'.format(X)", "'{0[a]}'.format(X)", "'{0[0]}'.format(X)", "'{{}}{}'.format(X)",
           "'{:x} {:#b}'.format(X, X)", "'{:e}'.format(X)", "'{:.3}'.format(X)", "'{:*^12}'.format(X)", "'{:+}'.format(X)", "'{:%}'.format(X)", "'{:{w}}'.format(X, w=9)", "'{:g}'.format(X)", "'{:_}'.format(X)", "'{'.format(X)", "'{} {1}'.format(X, Y)", "'{:s}'.format(X)", "'{!s}'.format(X)", "'{:d}'.format(X)", "'{:c}'.format(X)", "'{:=+8}'.format(X)"]
CALLS = ["range(X)", "range(X,Y)", "range(0,9,X)", "range(X)|list", "range(1,Y)|list", "dict(a=X)", "dict(X)", "dict(X, b=Y)", "namespace(a=X).a", "joiner('-')()", "cycler(X,Y).next()", "cycler(X,Y).current", "strftime_now('%d %B %Y %H:%M %j %A %p')", "strftime_now(X)", "dict([(X,Y)])"]


class Maker:
    def __init__(self, r):
        self.r = r

    def atom(self):
        return self.r.choice(NAMES) if self.r.random() < 0.6 else self.r.choice(CONSTS)

    def index(self):
        r = self.r
        k = r.random()
        if k < 0.4:
            return r.choice(["0", "1", "-1", "5", "'a'", "'b'", "'items'", "'upper'", "s", "i", "n", "true", "1.0", "'__class__'", "'append'"])
        parts = [r.choice(["", "0", "1", "2", "-1", "-2", "10", "-10", "none", "i", "j"]) for _ in range(3)]
        return ":".join(parts[:2]) if k < 0.8 else ":".join(parts)

    def expr(self, depth):
        r = self.r
        if depth <= 0:
            return self.atom()
        k = r.random()
        sub = lambda: self.expr(depth - 1 - r.randrange(2))
        if k < 0.28:
            return f"({sub()})|{r.choice(FILTERS)}"
        if k < 0.42:
            return f"({sub()}).{r.choice(METHODS)}"
        if k < 0.62:
            return f"({sub()}) {r.choice(BINARY)} ({sub()})"
        if k < 0.70:
            return f"({sub()})[{self.index()}]"
        if k < 0.77:
            return f"({sub()}) is {r.choice(TESTS)}"
        if k < 0.80:
            return f"({sub()} if {sub()} else {sub()})"
        if k < 0.82:
            return f"({sub()} if {sub()})"
        if k < 0.85:
            return f"not ({sub()})" if r.random() < 0.5 else f"-({sub()})"
        if k < 0.88:
            return r.choice(PERCENTS + FORMATS).replace("X", f"({sub()})").replace("Y", f"({sub()})")
        if k < 0.91:
            return r.choice(CALLS).replace("X", f"({sub()})").replace("Y", f"({sub()})")
        if k < 0.95:
            items = [sub() for _ in range(r.randrange(4))]
            return "[" + ", ".join(items) + "]" if r.random() < 0.6 else "(" + "".join(x + ", " for x in items) + ")"
        if k < 0.97:
            return "{" + ", ".join(f"{self.atom()}: {sub()}" for _ in range(r.randrange(3))) + "}"
        return " ".join([f"{sub()} {r.choice(['<', '==', '+', '~', '*', 'in', 'and', '//', '%', '**', '|length ==', 'is defined and'])} {sub()}"])

    # ---- statements ----
    def name(self):
        return self.r.choice(["x", "y", "k", "s", "i", "ns", "loop", "m1", "caller"] if self.r.random() < 0.15 else ["x", "y", "k", "v"])

    def tag(self, text):
        r = self.r
        return "{%" + r.choice(["", "", "", "-", "+"]) + " " + text + " " + r.choice(["", "", "", "-", "+"]) + "%}"

    def out(self, depth):
        r = self.r
        pool = ["x", "y", "k", "v", "loop.index", "loop.first", "loop.last", "loop.length", "loop.previtem", "loop.nextitem", "loop.revindex",
                "loop.cycle('p','q')", "loop.changed(x)", "loop.depth", "m1(1)", "m1(x, y=2)", "m1()", "ns.c", "varargs", "kwargs", "caller()", "loop.index0", "x + 1", "y ~ x", "caller(1)", "loop is defined", "m2(x)", "m1", "m1.name", "m1.arguments"]
        e = r.choice(pool) if r.random() < 0.7 else self.expr(depth)
        return "{{" + r.choice(["", "", "-"]) + " " + e + " " + r.choice(["", "", "-"]) + "}}"

    def space(self):
        return self.r.choice(["", " ", "\n", "  \n", "\n  ", "a", "text\n", "\n\n", "\t", "é ", "b "])

    def body(self, depth, in_loop, n=None):
        return "".join(self.space() + self.stmt(depth, in_loop) for _ in range(n or self.r.randrange(1, 4))) + self.space()

    def stmt(self, depth, in_loop):
        r = self.r
        k = r.random()
        if depth <= 0 or k < 0.3:
            return self.out(1)
        d = depth - 1
        if k < 0.42:
            return self.tag(f"set {self.name()} = {self.expr(1)}")
        if k < 0.47:
            return self.tag(f"set {self.name()}" + r.choice(["", "|upper", "|trim|length"])) + self.body(d, in_loop) + self.tag("endset")
        if k < 0.50:
            return self.tag("set ns.c = " + self.expr(1))
        if k < 0.62:
            s = self.tag("if " + self.cond()) + self.body(d, in_loop)
            for _ in range(r.choice([0, 0, 0, 1, 2])):
                s += self.tag("elif " + self.cond()) + self.body(d, in_loop)
            if r.random() < 0.5:
                s += self.tag("else") + self.body(d, in_loop)
            return s + self.tag("endif")
        if k < 0.80:
            target = r.choice(["x", "x", "y", "k, v", "k"])
            it = r.choice(["l", "ss", "d", "d.items()", "range(3)", "missing", "os", "'ab'", "ll", "[1,2,2]", "d|dictsort", "l|select('odd')", "e", "x", "m", "os|map(attribute='name')"])
            if target == "k, v":
                it = r.choice(["d.items()", "d|items", "d|dictsort", "[(1,2),(3,4)]", "ll"])
            rec = r.random() < 0.12
            s = self.tag(f"for {target} in {it}" + (f" if {self.cond()}" if r.random() < 0.2 else "") + (" recursive" if rec else ""))
            s += self.body(d, True)
            if rec and r.random() < 0.7:
                s += "{% if loop.depth < 3 %}{{ loop(" + r.choice(["x", "[1,2]", "ll", "k"]) + ") }}{% endif %}"
            if r.random() < 0.25:
                s += self.tag("else") + self.body(d, in_loop)
            return s + self.tag("endfor")
        if k < 0.84 and in_loop:
            return self.tag("if " + self.cond()) + self.tag(r.choice(["break", "continue"])) + self.tag("endif")
        if k < 0.89:
            sig = r.choice(["x", "x, y=1", "", "x=none, y=x", "y, caller=none", "x, varargs=3"])
            return self.tag(f"macro {r.choice(['m1', 'm2'])}({sig})") + self.body(d, False) + self.tag("endmacro")
        if k < 0.92:
            return self.tag("call" + r.choice(["", "(y)", "(x, y=2)"]) + " " + r.choice(["m1(1)", "m2(x)", "m1()", "s.upper()"])) + self.body(d, False) + self.tag("endcall")
        if k < 0.95:
            return self.tag(f"with x = {self.expr(1)}, y = x") + self.body(d, in_loop) + self.tag("endwith")
        if k < 0.97:
            return self.tag("filter " + r.choice(["upper", "trim|length", "indent(2)", "replace('a','b')"])) + self.body(d, in_loop) + self.tag("endfilter")
        if k < 0.98:
            return self.tag("raw") + "{{ x }} {% if %}" + self.space() + self.tag("endraw")
        if k < 0.99:
            return self.tag("generation") + self.body(d, False) + self.tag("endgeneration")
        return "{#" + r.choice(["", "-", "+"]) + " note " + r.choice(["", "-", "+"]) + "#}"

    def cond(self):
        r = self.r
        return r.choice(["x", "y", "loop.first", "loop.last", "loop.index > 1", "x is odd", "x == 1", "true", "false", "k is defined", "v", "x is string", "not x", "x is none", "loop.index0 == 1", "y is undefined"]) if r.random() < 0.8 else self.expr(1)

    def template(self):
        pre = "{% set ns = namespace(c=0) %}" if self.r.random() < 0.8 else ""
        if self.r.random() < 0.5:
            pre += "{% macro m1(x, y='Y') %}[{{ x }}{{ y }}" + self.r.choice(["", "{{ varargs }}", "{{ kwargs }}", "{{ caller() if caller else '' }}", "{{ caller(x) }}"]) + "]{% endmacro %}"
        return pre + self.body(3, False, self.r.randrange(1, 5))


class Skip(Exception):
    pass


def reference(source, variables):
    try:
        text = ENV.from_string(source).render(**variables)
    except RecursionError:
        raise Skip("recursion")
    except Exception as e:           # any refusal of Python's is one that we want
        return None, f"{type(e).__name__}: {e}"
    return text, None


UNFAIR = re.compile(r"(?i)0x[0-9a-f]{6,}|\d{19,}|<(built-in )?(method|function|class)|generator object|[0-9]j\)")

ADDRESS = re.compile(r"(?i)o\W*b\W*j\W*e\W*c\W*t\W*(>|&gt;|$)|>.?t.?c.?e.?j.?b.?o")     # ours, without its address


def compare(row, source):
    try:
        text, error = reference(source, copy.deepcopy(VARS))
    except Skip:
        return None
    if text is not None and (UNFAIR.search(text) or ADDRESS.search(row.get("text", ""))):
        return None
    # Quirks of constant folding: -1 ** x is -(1 ** x), 1[1:2] is undefined.
    # And the words of a generator's text, whose address Python prints.
    if re.search(r"\(-[\d.]+\) \*\*|\|(unique|map|select|reject|slice|batch|items)\S*\|wordcount", source) or "cannot be sliced" in row.get("error", ""):
        return None
    got = row.get("error", "")
    if "64-bit" in got or "not supported" in got or got.endswith("limit") or "nested deeper" in got or "is at most" in got \
            or "more than" in got and "steps" in got or "too long" in got:
        return None
    if text is None and "error" in row:
        return None
    if text is not None and row.get("text") == text:
        return None
    return f"{source!r}\n    jinja2: {text!r} {error or ''}\n    here:   {row.get('text')!r} {got}"


def main():
    warnings.simplefilter("ignore")
    p = argparse.ArgumentParser()
    p.add_argument("--program", default=os.path.join(os.path.dirname(os.environ.get("WATT", "")),
                                                     "tests", "template_cases"))
    p.add_argument("--cases", type=int, default=12000)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--share", type=float, default=0.03, help="of the table of filters by values")
    p.add_argument("--show", type=int, default=20)
    p.add_argument("--kind", choices=["all", "each", "expr", "template"], default="all")
    a = p.parse_args()
    r = random.Random(a.seed)
    make = Maker(r)
    sources = []
    if a.kind in ("all", "each"):      # each filter, test, method on each value
        for v in NAMES + CONSTS:
            sources += [f"{{{{ ({v})|{f} }}}}" for f in FILTERS]
            sources += [f"{{{{ ({v})|{f}|list }}}}" for f in FILTERS]
            sources += [f"{{{{ ({v})|{f}|string|tojson }}}}" for f in FILTERS]
            sources += [f"{{{{ ({v}).{m} }}}}" for m in METHODS]
            sources += [f"{{{{ ({v}) is {t} }}}}" for t in TESTS]
            for w in CONSTS + NAMES:
                sources += [f"{{{{ ({v}) {o} ({w}) }}}}" for o in BINARY]
                if r.random() < 0.3:
                    sources += [f"{{{{ {x} }}}}".replace("X", f"({v})").replace("Y", f"({w})") for x in PERCENTS + FORMATS + CALLS]
    if a.share < 1:
        sources = [x for x in sources if r.random() < a.share]
    for k in range(a.cases):
        if a.kind == "expr" or (a.kind == "all" and k % 2):
            sources.append("{{ " + make.expr(r.randrange(1, 5)) + " }}")
        elif a.kind in ("template", "all"):
            sources.append(make.template())
    lines = "".join(json.dumps({"template": s, "vars": VARS}) + "\n" for s in sources)
    done = subprocess.run([a.program], input=lines.encode(), capture_output=True)
    rows = [json.loads(x) for x in done.stdout.decode().split("\n") if x]
    if len(rows) != len(sources):
        print(f"{a.program} stopped after {len(rows)} of {len(sources)}: {sources[len(rows)]!r}")
        print(done.stderr.decode()[-3000:])
        return 1
    bad = 0
    for s, row in zip(sources, rows):
        diff = compare(row, s)
        if diff:
            bad += 1
            if bad <= a.show:
                print(diff)
    print(f"{len(sources)} cases, {bad} differ (Jinja2 {jinja2.__version__}, Python {sys.version.split()[0]})")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
