#!/usr/bin/env python3
"""An HTTP service for Tollgate's recipes, on Python's standard library alone.

POST /render/<tenant>   streams progress, then the result, line by line (NDJSON)
GET  /status/<id>       JSON, or a problem document when the id is not known
POST /check             422 with a problem document when the payload has no rows

Run it with `python3 examples/upstream/reports.py`, and a broker with
`tollgate serve --config examples/upstream/tollgate.toml --tenant acme`.
"""

import argparse
import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Reports(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # Connections are kept.

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        rows = json.loads(body or b"{}").get("rows", [])
        if self.path == "/check":
            if rows:
                return self.answer(200, {"rows": len(rows)})
            return self.problem(422, "Nothing to render", "`rows` is empty", "NO_ROWS")
        self.render(rows)

    def do_GET(self):
        report = self.path.rsplit("/", 1)[-1]
        if report.startswith("r-"):
            return self.answer(200, {"report": report, "state": "done"})
        self.problem(404, "No such report", f"there is no report {report}", "NO_REPORT")

    def render(self, rows):
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        left = int(self.headers["Tollgate-Deadline-Ms"]) / 1000
        until = time.monotonic() + left
        for done, row in enumerate(rows, 1):
            if time.monotonic() > until:
                return self.line({"error": {"message": "out of time"}}, last=True)
            time.sleep(0.05)  # The work.
            self.line({"progress": {"done": done, "total": len(rows), "message": str(row)}})
        self.line({"result": {"tenant": self.headers["Tollgate-Tenant"], "pages": len(rows)}}, last=True)

    def line(self, value, last=False):
        text = json.dumps(value).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(text), text))
        if last:
            self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def answer(self, status, value, kind="application/json"):
        text = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def problem(self, status, title, detail, app_code):
        value = {"title": title, "detail": detail, "status": status, "app_code": app_code}
        self.answer(status, value, "application/problem+json")

    def log_message(self, *words):
        pass


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--port", type=int, default=9000)
    server = ThreadingHTTPServer(("127.0.0.1", options.parse_args().port), Reports)
    print("listening on http://127.0.0.1:%d" % server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
