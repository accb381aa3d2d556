"""A hub of models on this machine, in the shape of Hugging Face's: listings by commit, files by ranges."""
import contextlib
import hashlib
import http.server
import json
import threading
import time

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """files: {"org/repo": {name: bytes}}. `slow`: seconds before each 64 KiB; `wrong`: repositories
    whose hashes are lies."""

    def __init__(self, files):
        self.files, self.slow, self.wrong, self.bytes_sent = files, 0.0, set(), 0
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def reply(self, status, body, **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(ConnectionError):
                    for at in range(0, len(body), 65536):
                        if hub.slow:
                            time.sleep(hub.slow)
                        self.wfile.write(body[at:at + 65536])
                        hub.bytes_sent += len(body[at:at + 65536])

            def do_GET(self):
                parts = self.path.split("?")[0].strip("/").split("/")
                if parts[:2] == ["api", "models"] and "/".join(parts[2:4]) in hub.files:
                    self.reply(200, json.dumps(hub.listing("/".join(parts[2:4]))).encode())
                    return
                data = hub.files.get("/".join(parts[:2]), {}).get("/".join(parts[4:]))
                if parts[2:3] != ["resolve"] or data is None:
                    self.reply(404, b"{}")
                    return
                asked = self.headers.get("Range")
                if not asked:
                    self.reply(200, data, Accept_Ranges="bytes")
                    return
                first, last = asked.removeprefix("bytes=").split("-")
                first, last = int(first), min(int(last or len(data) - 1), len(data) - 1)
                self.reply(206, data[first:last + 1], Content_Range=f"bytes {first}-{last}/{len(data)}")

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def listing(self, repo):
        return {"sha": COMMIT, "siblings": [
            {"rfilename": name, "size": len(data), "lfs": {"size": len(data), "sha256": hashlib.sha256(
                data + (b"x" if repo in self.wrong else b"")).hexdigest()}}
            for name, data in self.files[repo].items()]}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
