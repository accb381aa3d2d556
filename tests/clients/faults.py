#!/usr/bin/env python3
"""Clients that die, dawdle, flood or send rubbish: the server refuses with the right status, loses
nothing, and the others' answers stay the same bits.

    faults.py [--full]     --full: 10,000 connections and 100,000 requests with random cancels
"""
import http.client
import json
import os
import random
import resource
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "lib"))
from rig import Server, check, done, together  # noqa: E402

FULL = "--full" in sys.argv
ASK = {"prompt": "Once upon a time", "max_tokens": 60, "temperature": 0, "ignore_eos": True}
MANY = 10000 if FULL else 1000


def head(path, length, more=""):
    return (f"POST {path} HTTP/1.1\r\nHost: x\r\n{more}Content-Length: {length}\r\n\r\n").encode()


def request(body, path="/v1/completions"):
    text = json.dumps(body).encode()
    return head(path, len(text), "Connection: close\r\n") + text


def dial(server):
    return socket.create_connection(("127.0.0.1", server.port), 60)


def reset(s):
    """Goes away without a word of farewell."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def hear(s):
    data = b""
    try:
        while piece := s.recv(65536):
            data += piece
    except (ConnectionError, TimeoutError):
        pass
    s.close()
    return data


def status(data):
    return int(data[9:12]) if data.startswith(b"HTTP/1.1 ") else 0


def text_of(server):
    code, _, body = server.ask("/v1/completions", ASK)
    check(code == 200, body)
    return json.loads(body)["choices"][0]["text"]


def quiet(server):
    for _ in range(600):
        if server.load() == 0:
            return
        time.sleep(0.05)
    raise AssertionError("requests that nobody waits for run on")


def few_files(server):
    for _ in range(300):
        if server.files() < 60:
            return
        time.sleep(0.1)
    raise AssertionError(f"{server.files()} files are open")


def killed_mid_stream(server):
    whole = text_of(server)
    texts = [None] * 12

    def keeps(i):
        texts[i] = text_of(server)

    def leaves():
        s = dial(server)
        s.sendall(request({**ASK, "max_tokens": 3000, "stream": True}))
        s.recv(100)
        reset(s)

    together([lambda i=i: keeps(i) for i in range(12)] + [leaves] * 12)
    check(set(texts) == {whole}, "the others keep their bits")
    quiet(server)


def half_sent(server):
    """They hold nobody up, and are cut off."""
    cases = [b"POST /v1/compl", head("/v1/completions", 100), head("/v1/completions", 100) + b"{",
             b"POST /x HTTP/1.1\r\nA: " + b"b" * 1000, b"\x16\x03\x01\x02\x00"]
    socks = []
    for i in range(200):
        s = dial(server)
        s.sendall(cases[i % len(cases)])
        socks.append(s)
    check(text_of(server) != "")
    end = time.monotonic() + 20
    drip = {s for s in socks[:10]}          # a byte now and then does not keep a connection
    left = list(socks)
    while left and time.monotonic() < end:
        for s in list(left):
            s.settimeout(0.01)
            try:
                if s in drip:
                    s.send(b"x")
                if s.recv(1000) == b"":
                    left.remove(s)
            except TimeoutError:
                pass
            except OSError:
                left.remove(s)
        time.sleep(0.2)
    check(not left, f"{len(left)} half-sent requests are still held")
    for s in socks:
        s.close()


def garbage(server):
    rng = random.Random(7)
    for _ in range(300):
        s = dial(server)
        try:
            s.sendall(bytes(rng.randrange(256) for _ in range(rng.randrange(1, 400))))
            s.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        s.settimeout(0.3)           # what may still become a request is waited for
        check(status(hear(s)) in (0, 400, 404, 405, 411, 413, 414, 431, 501, 505))
    for text, expected in ((b"GET /health HTTP/9.9\r\nHost: x\r\n\r\n", (400, 505)),
                           (b"GET /" + b"a" * 200000 + b" HTTP/1.1\r\n\r\n", (400, 414)),
                           (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 200000 + b"\r\n\r\n", (400, 431))):
        s = dial(server)
        try:
            s.sendall(text)
        except OSError:
            pass
        got = status(hear(s))
        check(got in (0, *expected), f"{text[:40]} {got}")


def large_bodies(server):
    s = dial(server)
    s.sendall(head("/v1/completions", 100 << 20))
    check(status(s.recv(1000)) == 413, "refused before it is sent")
    s.close()
    s = dial(server)
    s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    block = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    try:
        for _ in range(100):
            s.sendall(block)
        s.sendall(b"0\r\n\r\n")
    except OSError:
        pass
    check(status(hear(s)) in (0, 413))
    for body in (b"[" * 100000, b'{"a":' * 100000, b"[" * 100000 + b"]" * 100000,
                 b'{"prompt":"' + b"\\u0041" * 100000 + b'","max_tokens":1}'):
        code, _, text = server.ask("/v1/completions", body)
        check(code == 400 and "error" in json.loads(text), text[:200])


def crowds(server):
    """Thousands of connections, all idle, while a few stream; then each asks something. Returns what a
    connection costs."""
    whole = text_of(server)
    before, stop, texts = server.memory(), threading.Event(), []

    def streams():
        while not stop.is_set():
            s = dial(server)
            s.sendall(request({**ASK, "stream": True}))
            data = hear(s)
            texts.append("".join(json.loads(line[6:])["choices"][0]["text"] for line in data.splitlines()
                                 if line.startswith(b"data: {")))

    threads = [threading.Thread(target=streams) for _ in range(3)]
    for t in threads:
        t.start()
    try:
        socks = [dial(server) for _ in range(MANY)]
        check(text_of(server) == whole)
        time.sleep(1)
        each = (server.memory() - before) / MANY
        for s in socks:
            s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        good = sum(status(hear(s)) == 200 for s in socks)
    finally:
        stop.set()
        for t in threads:
            t.join()
    check(good == MANY, f"{good} of {MANY} were answered")
    check(len(texts) >= 3 and set(texts) == {whole}, "the others keep streaming the same bits")
    check(each < 100000, f"{each:.0f} bytes for a connection")
    return f"{each / 1024:.1f} KiB a connection, {len(texts)} streams meanwhile"


def slow_readers(server):
    """They ask for much and read nothing; the others notice nothing and their places come free."""
    whole = text_of(server)
    socks = []
    for _ in range(6):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(("127.0.0.1", server.port))
        s.sendall(request({"messages": [{"role": "user", "content": "x"}], "max_tokens": 3900,
                           "ignore_eos": True, "stream": True, "logprobs": True, "top_logprobs": 60},
                          "/v1/chat/completions"))
        socks.append(s)
    for _ in range(5):
        check(text_of(server) == whole)
    quiet(server)
    for s in socks:
        reset(s)


def no_descriptors():
    with Server("--connections", "10000", prefix=("prlimit", "--nofile=80:80")) as server:
        whole = text_of(server)
        socks = [dial(server) for _ in range(150)]
        time.sleep(0.5)
        for s in socks:
            s.close()
        time.sleep(0.5)
        check(text_of(server) == whole, "it answers again")
        few_files(server)


def books(server, expected):
    for _ in range(300):
        state = json.loads(server.ask("/health")[2])["ledger"]
        if state["status"] == expected:
            return state
        time.sleep(0.1)
    raise AssertionError(f"the ledger is not {expected}: {state}")


def full_disk():
    """The disk under the cache's pages, the ledger and the log is full: answers are the same, and what
    was not booked is said."""
    with tempfile.TemporaryDirectory() as folder:
        mounted = os.geteuid() == 0 and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True,
            check=False).returncode == 0
        try:
            with Server("--cache-dir", folder, "--cache-dir-bytes", "1M", "--kv-bytes", "8M", "--parallel", "2",
                        "--access-log", "--ledger", os.path.join(folder, "books.db"),
                        log=os.path.join(folder, "log")) as server:
                whole = text_of(server)
                for i in range(60):
                    code, _, body = server.ask("/v1/completions", {**ASK, "prompt": f"{i} " * 600,
                                                                   "max_tokens": 1})
                    check(code == 200, body)
                if mounted:
                    with open(os.path.join(folder, "filler"), "wb", buffering=0) as f:
                        try:
                            while f.write(b"x" * 512):
                                pass
                        except OSError:
                            pass
                    for _ in range(5):
                        check(text_of(server) == whole)
                    books(server, "failing")
                    os.unlink(os.path.join(folder, "filler"))
                check(text_of(server) == whole)
                check(books(server, "ok")["lost"] == 0, "what waited in memory is booked")
        finally:
            if mounted:
                subprocess.run(["umount", folder], check=False)
    return "a full disk" if mounted else "a folder that never filled (it takes root to make a small one)"


def random_cancels(n):
    """Memory flat, no place lost."""
    with Server("--parallel", "16", ctx=512) as server:
        rng = random.Random(3)
        left = [n]
        lock = threading.Lock()
        sizes = []

        def worker(seed):
            own = random.Random(seed)
            while True:
                with lock:
                    if left[0] == 0:
                        return
                    left[0] -= 1
                    if left[0] % max(n // 10, 1) == 0:
                        sizes.append(server.memory())
                body = {"prompt": "a b c d " * own.randrange(1, 12), "max_tokens": own.randrange(1, 40),
                        "stream": own.random() < 0.5, "temperature": 1, "seed": own.randrange(9)}
                try:
                    s = dial(server)
                    s.sendall(request(body))
                    if own.random() < 0.4:
                        if own.random() < 0.5:
                            s.recv(own.randrange(1, 400))
                        if own.random() < 0.5:
                            reset(s)
                        else:
                            s.close()
                    else:
                        check(status(hear(s)) in (200, 429))
                except ConnectionError:
                    pass

        together([lambda i=i: worker(rng.randrange(1 << 30) + i) for i in range(12)])
        quiet(server)
        few_files(server)
        check(text_of(server) == text_of(server))
        early, late = sizes[len(sizes) // 4], server.memory()
        check(late < early + (8 << 20) + early // 20, f"memory grew: {[s >> 10 for s in sizes]} KiB")
        stats = json.loads(server.ask("/slots")[2])
        check(len(stats) == 16 and not any(s["is_processing"] for s in stats))
        return f"{n} requests with random cancels: {early >> 10} KiB early on, {late >> 10} KiB at the end"


def main():
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    if limit < MANY + 200:
        raise SystemExit(f"{MANY} connections need as many file descriptors; the limit is {limit}")
    with Server("--connections", str(MANY + 500), "--idle", "4") as server:
        for f in (killed_mid_stream, half_sent, garbage, large_bodies, slow_readers):
            began = time.monotonic()
            f(server)
            print(f"{f.__name__}: {time.monotonic() - began:.1f} s")
        quiet(server)
    with Server("--connections", str(MANY + 500)) as server:
        cost = crowds(server)
        few_files(server)
    print(f"crowds: {cost}")
    no_descriptors()
    disk = full_disk()
    figures = random_cancels(100000 if FULL else 2000)
    print(figures)
    done(f"{MANY} connections, {cost}, {disk}, {figures}")


main()
