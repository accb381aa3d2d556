"""What the suites of clients share: a server of a small model of random weights, and checks.

$WATT names the executable. A suite is a script beside this folder: it exits with 0, 1, or 77 when it
could not run, and its last line says what was run.
"""
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
TOOLS_TEMPLATE = os.path.join(HERE, "tools.jinja")   # a chat template with functions
WATT = os.environ.get("WATT") or os.path.join(HERE, "../../../build/watt")
PILOT = os.path.join(HERE, "../../../models/pilot.gguf")    # it has learned to call functions


def skip(why):
    print(why)
    sys.exit(77)


class Server:
    """watt serve of a model, or of one made for the occasion, in a folder of its own."""

    def __init__(self, *options, shape="tiny-qwen3", model=None, ctx=4096, name="tiny", env=None,
                 prefix=(), log=None, tools=True):
        self.folder = tempfile.mkdtemp(prefix="watt-clients-")
        self.model = model or os.path.join(self.folder, "model.gguf")
        if not model:
            subprocess.run([WATT, "synth", shape, self.model, "--ctx", "32768"], check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            options = ("--ctx", str(ctx), *(("--template", TOOLS_TEMPLATE) if tools else ()), *options)
        self.log = open(log or os.path.join(self.folder, "log"), "w+")
        self.process = subprocess.Popen(
            [*prefix, WATT, "serve", self.model, "--port", "0", "--quiet", "--name", name,
             "--threads", "2", *options], stdout=subprocess.PIPE, stderr=self.log, text=True, env={**os.environ, **(env or {})})
        line = self.process.stdout.readline().strip()
        if "://" not in line:
            self.process.wait()
            self.log.seek(0)
            raise RuntimeError("the server did not start: " + self.log.read())
        self.url = line
        self.port = int(line.rsplit(":", 1)[1])

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        code = self.stop()
        if kind is None and code != 0:
            raise AssertionError(f"the server ended with {code}: {self.errors()}")

    def errors(self):
        self.log.flush()
        with open(self.log.name) as f:
            return f.read()[-4000:]

    def stop(self):
        self.process.terminate()
        try:
            code = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = "no end within 60 s"
        self.text = self.errors()
        self.log.close()
        self.errors = lambda: self.text
        shutil.rmtree(self.folder, ignore_errors=True)
        return code

    def ask(self, path, body=None, headers=None, method=None, timeout=60):
        """(status, headers, text)"""
        request = urllib.request.Request(
            self.url + path, method=method,
            data=None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **(headers or {})})
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.headers, e.read().decode()

    def metric(self, name):
        for line in self.ask("/metrics")[2].splitlines():
            if line.startswith(name) and line[len(name)] in "{ ":
                return float(line.rsplit(" ", 1)[1])
        raise KeyError(name)

    def load(self):
        return json.loads(self.ask("/load")[2])["server_load"]

    def memory(self):
        """Resident bytes that no file backs."""
        with open(f"/proc/{self.process.pid}/status") as f:
            return next(int(l.split()[1]) * 1024 for l in f if l.startswith("RssAnon:"))

    def files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def threads(self):
        return len(os.listdir(f"/proc/{self.process.pid}/task"))


checks = 0


def check(ok, what=""):
    global checks
    checks += 1
    if not ok:
        raise AssertionError(what)


@contextlib.contextmanager
def refused(kind, status=None, about=""):
    """The block must raise an error of this kind, with this status, whose text has `about` in it."""
    try:
        yield
    except kind as e:
        found = getattr(e, "status_code", None)
        check(status is None or found == status, f"{found} in place of {status}: {e}")
        check(about in str(e), f"no {about!r} in {e}")
    else:
        raise AssertionError(f"nothing was refused: {kind} {about}")


def together(functions):
    """Runs all at once; raises the first error."""
    errors = []

    def run(f):
        try:
            f()
        except BaseException as e:      # noqa: B902: to the main thread
            errors.append(e)

    threads = [threading.Thread(target=run, args=(f,)) for f in functions]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]


def done(what):
    print(f"{checks} checks; {what}")
