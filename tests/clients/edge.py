#!/usr/bin/env python3
"""TLS by its handshake, keys and certificates read again by SIGHUP, an orderly end by SIGTERM: with
streams running all the while."""
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import warnings

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "lib"))
from rig import Server, check, done, skip  # noqa: E402

LONG = {"prompt": "Once upon a time", "max_tokens": 1500, "temperature": 0, "ignore_eos": True, "stream": True}
BEARER = {"Authorization": "Bearer one", "Content-Type": "application/json"}


def certificate(folder, name):
    """Signed by itself; `name` tells one from another."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", f"{folder}/key.new", "-out", f"{folder}/cert.new", "-days", "2", "-subj", f"/CN={name}",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, capture_output=True)
    shutil.copy(f"{folder}/cert.new", f"{folder}/{name}.pem")
    os.replace(f"{folder}/key.new", f"{folder}/key.pem")
    os.replace(f"{folder}/cert.new", f"{folder}/cert.pem")
    return f"{folder}/{name}.pem"


def keys(folder, *names):
    with open(f"{folder}/keys.new", "w") as f:
        for n in names:
            f.write(hashlib.sha256(n.encode()).hexdigest() + f" name={n}\n")
    os.replace(f"{folder}/keys.new", f"{folder}/keys")


def https(server, trusted, **more):
    context = ssl.create_default_context(cafile=trusted)
    return http.client.HTTPSConnection("127.0.0.1", server.port, timeout=60, context=context, **more)


def ask(c, path, key="one"):
    c.request("GET", path, headers={"Authorization": "Bearer " + key})
    r = c.getresponse()
    return r.status, r.read()


def subject(c):
    c.connect()
    return dict(x[0] for x in c.sock.getpeercert()["subject"])["commonName"]


class Stream(threading.Thread):
    """Reads a long answer to its end, whatever happens meanwhile."""

    def __init__(self, connection):
        super().__init__()
        connection.request("POST", "/v1/completions", json.dumps(LONG), BEARER)
        self.answer = connection.getresponse()
        check(self.answer.status == 200)
        self.first = self.answer.readline()
        self.text = b""
        self.start()

    def run(self):
        try:
            self.text = self.first + self.answer.read()
        except (http.client.IncompleteRead, ConnectionError) as e:
            self.text = getattr(e, "partial", b"") + b" cut"

    def whole(self):
        self.join(60)
        return self.text.endswith(b"data: [DONE]\n\n") and self.text.count(b'"text"') > 50


def wait_for(condition, what):
    for _ in range(200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(what)


def handshakes(server, first):
    check(ask(https(server, first), "/v1/models")[0] == 200)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.create_default_context(cafile=first)
        context.minimum_version = context.maximum_version = version
        with socket.create_connection(("127.0.0.1", server.port)) as raw, \
                context.wrap_socket(raw, server_hostname="localhost") as s:
            check(s.version() == version.name.replace("_", "."), s.version())
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    try:
        warnings.simplefilter("ignore")
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1
        with socket.create_connection(("127.0.0.1", server.port)) as raw, old.wrap_socket(raw):
            raise AssertionError("TLS 1.0 was taken")
    except (ssl.SSLError, ConnectionError):
        check(True)
    with socket.create_connection(("127.0.0.1", server.port), 10) as s:
        s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")       # not TLS
        try:
            check(not s.recv(100).startswith(b"HTTP/1.1 200"))
        except ConnectionError:
            check(True)
    held = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]   # never shake hands
    check(ask(https(server, first), "/v1/models")[0] == 200, "they hold nobody up")
    for s in held:
        s.close()


def read_again(server, folder, first):
    """While a stream runs on one connection and another stands open."""
    open_one = https(server, first)
    check(subject(open_one) == "first" and ask(open_one, "/v1/models")[0] == 200)
    stream = Stream(https(server, first))
    second = certificate(folder, "second")
    keys(folder, "two")
    server.process.send_signal(signal.SIGHUP)

    def serves_second():
        try:
            return subject(https(server, second)) == "second"
        except ssl.SSLError:
            return False

    wait_for(serves_second, "the new certificate is not served")
    check(open_one.sock.getpeercert()["subject"][0][0][1] == "first")
    check(ask(open_one, "/v1/models")[0] == 401, "the connection stays, its old key is gone")
    check(ask(open_one, "/v1/models", "two")[0] == 200)
    check(stream.whole(), "the stream of the old key and certificate went to its end")
    # what can't be read stays as it was
    for name, rubbish in (("cert.pem", "no certificate"), ("keys", "no key\n")):
        with open(f"{folder}/{name}") as f:
            good = f.read()
        with open(f"{folder}/{name}", "w") as f:
            f.write(rubbish)
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: name in server.errors(), "it doesn't say so")
        check(ask(https(server, second), "/v1/models", "two")[0] == 200)
        with open(f"{folder}/{name}", "w") as f:
            f.write(good)
    keys(folder, "one", "two")
    for i in range(50):                     # in quick succession
        server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: ask(https(server, second), "/v1/models")[0] == 200, "the key that came back")
    return second


def orderly_end(trusted, *options):
    """Streams go on to their ends; whoever comes now is refused; then the process ends with 0."""
    server = Server(*options)
    connect = (lambda: https(server, trusted)) if trusted else \
        (lambda: http.client.HTTPConnection("127.0.0.1", server.port, timeout=60))
    streams = [Stream(connect()) for _ in range(4)]
    idle = connect()
    check(ask(idle, "/health")[0] == 200)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    check(ask(idle, "/health")[0] in (200, 503))
    try:
        status, body = ask(idle, "/ready")
        check(status == 503, (status, body))
        idle.request("POST", "/v1/completions", json.dumps({**LONG, "stream": False}), BEARER)
        r = idle.getresponse()
        check(r.status == 503 and r.getheader("Retry-After") and b"shutting" in r.read(), r.status)
    except (http.client.RemoteDisconnected, ConnectionError):
        check(True)                         # an idle connection may be closed
    try:
        connect().connect()
        raise AssertionError("a new connection was taken")
    except (ConnectionError, ssl.SSLError):
        check(True)
    check(all(s.whole() for s in streams), "a stream was cut")
    check(server.process.wait(30) == 0, server.errors())
    server.stop()


def short_end():
    """--drain bounds how long; a second signal ends at once."""
    for drain, signals in (("1", 1), ("60", 2)):
        with Server("--drain", drain, ctx=32000) as server:
            c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            c.request("POST", "/v1/completions", json.dumps({**LONG, "max_tokens": 30000}), BEARER)
            r = c.getresponse()
            r.readline()
            began = time.monotonic()
            for _ in range(signals):
                server.process.send_signal(signal.SIGTERM)
                time.sleep(0.3)
            server.process.wait(30)
            check(time.monotonic() - began < 10, "it took long")


def main():
    if not shutil.which("openssl"):
        skip("openssl is not here, which makes certificates")
    with tempfile.TemporaryDirectory() as folder:
        first = certificate(folder, "first")
        keys(folder, "one")
        tls = ("--tls-cert", f"{folder}/cert.pem", "--tls-key", f"{folder}/key.pem")
        with Server(*tls, "--api-keys", f"{folder}/keys") as server:
            check(server.url.startswith("https://"), server.url)
            handshakes(server, first)
            second = read_again(server, folder, first)
        orderly_end(None)
        orderly_end(second, *tls)
        short_end()
    done("TLS 1.2 and 1.3, SIGHUP under a stream, SIGTERM with four")


main()
