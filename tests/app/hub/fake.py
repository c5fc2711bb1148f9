"""A hub on this machine that speaks the part of the hub's API which `huggingface_hub` uses for models."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FORBIDDEN = b"a file that the hub does not give away"


class FakeHub:
    """Models by name, each with its commits: `{"user/name": [(sha, {path: content}), ...]}`, the newest last."""

    def __init__(self):
        self.models: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.private: set[str] = set()
        self.requests: list[str] = []
        self.fails_with: int | None = None
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def answer(self, status, content=b"", **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            def json(self, values, status=200, **headers):
                self.answer(status, json.dumps(values).encode(), Content_Type="application/json", **headers)

            def do_GET(self):
                hub.answer(self, b"")

            do_HEAD = do_GET  # noqa: N815

            def do_POST(self):
                hub.answer(self, self.rfile.read(int(self.headers.get("Content-Length", 0))))

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def commit(self, name: str, files: dict[str, bytes]) -> str:
        """Add a commit with these files to those that the model has."""
        commits = self.models.setdefault(name, [])
        whole = {**(commits[-1][1] if commits else {}), **files}
        sha = hashlib.sha1(repr((len(commits), sorted(whole.items()))).encode()).hexdigest()
        commits.append((sha, whole))
        return sha

    def answer(self, http, body: bytes) -> None:
        path = http.path.partition("?")[0]
        self.requests.append(f"{http.command} {path}")
        if self.fails_with is not None:
            return http.json({"error": "it is down"}, self.fails_with)
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            if name in self.models:
                return http.json({"error": "exists", "url": f"{self.address}/{name}"}, 409)
            self.models[name] = []
            self.commit(name, {".gitattributes": b""})
            if asked.get("private"):
                self.private.add(name)
            return http.json({"url": f"{self.address}/{name}"})
        if path == "/api/validate-yaml":
            return http.json({"errors": [], "warnings": []})
        found = re.match(
            r"/(?:api/models/)?(?P<name>[^/]+/[^/]+)(?:/(?P<verb>[^/]+))?(?:/(?P<revision>[^/]+))?(?:/(?P<rest>.*))?$", path
        )
        name, verb, revision, rest = found["name"], found["verb"], found["revision"], found["rest"]
        if name not in self.models:
            return http.json({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
        commits = self.models[name]
        chosen = next((c for c in commits if c[0] == revision), commits[-1] if revision in (None, "main") else None)
        if chosen is None:
            return http.json({"error": "no such revision"}, 404, X_Error_Code="RevisionNotFound")
        sha, files = chosen
        if verb in (None, "revision"):
            return http.json({"id": name, "sha": sha, "siblings": [{"rfilename": file} for file in files], "private": False})
        if verb == "tree":
            tree = [
                {"type": "file", "path": file, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for file, content in files.items()
            ]
            return http.json(tree)
        if verb == "preupload":
            asked = json.loads(body)["files"]
            answer = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in asked]
            return http.json({"files": answer})
        if verb == "commit":
            lines = [json.loads(line) for line in body.splitlines() if line]
            new = {v["value"]["path"]: base64.b64decode(v["value"]["content"]) for v in lines if v["key"] == "file"}
            sha = self.commit(name, new)
            return http.json({"commitOid": sha, "commitUrl": f"{self.address}/{name}/commit/{sha}", "hookOutput": ""})
        if verb == "resolve":
            if rest not in files:
                return http.json({"error": "no such file"}, 404, X_Error_Code="EntryNotFound")
            if files[rest] is FORBIDDEN:
                return http.json({"error": "forbidden"}, 403)
            oid = hashlib.sha1(files[rest]).hexdigest()
            return http.answer(200, files[rest], ETag=f'"{oid}"', X_Repo_Commit=sha)
        return http.json({"error": f"unknown {path}"}, 404)
