"""The few routes of the Hugging Face Hub that its client uses, on this machine."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_test"


class Hub:
    """A server in a thread; ``files[repo][path]`` is what has been uploaded."""

    def __init__(self):
        self.files, self.objects, self.log = {}, {}, []
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def commit(self, repo):
        content = repr(sorted(self.files[repo].items())).encode()
        return hashlib.sha1(content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._chunks()
        self.hub.log.append(f"POST {self.path}")
        if self.path == "/api/validate-yaml":
            assert json.loads(body)["content"].startswith("---")
            return self._json({"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._json({"error": "Invalid username or password."}, 401)
        if self.path == "/api/repos/create":
            given = json.loads(body)
            repo = f"{given['organization']}/{given['name']}"
            self.hub.files.setdefault(repo, {})
            return self._json({"url": f"{self.hub.url}/{repo}", "id": repo})
        if match := re.fullmatch(r"/api/models/(.+?)/preupload/\w+", self.path):
            return self._json(
                {
                    "files": [
                        {
                            "path": file["path"],
                            "uploadMode": "lfs" if _large(file["path"]) else "regular",
                            "shouldIgnore": False,
                        }
                        for file in json.loads(body)["files"]
                    ]
                }
            )
        if self.path.endswith(".git/info/lfs/objects/batch"):
            found = json.loads(body)["objects"]
            for item in found:
                href = f"{self.hub.url}/lfs/{item['oid']}"
                item["actions"] = {"upload": {"href": href}}
            return self._json({"transfer": "basic", "objects": found})
        match = re.fullmatch(r"/api/models/(.+?)/commit/\w+", self.path)
        files = self.hub.files[match[1]]
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
        oid = self.hub.commit(match[1])
        url = f"{self.hub.url}/{match[1]}/commit/{oid}"
        return self._json({"success": True, "commitOid": oid, "commitUrl": url})

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        oid = self.path.removeprefix("/lfs/")
        assert hashlib.sha256(body).hexdigest() == oid
        self.hub.objects[oid] = body
        self._send(200, b"")

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.hub.log.append(f"{self.command} {self.path}")
        path = self.path.partition("?")[0]
        match = re.fullmatch(
            r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/(.+))?", path
        )
        if match is None:
            match = re.fullmatch(r"/([^/]+/[^/]+)/(resolve)/([^/]+)/(.+)", path)
        repo = match[1]
        if repo not in self.hub.files:
            return self._json({"error": "Repository not found"}, 404, "RepoNotFound")
        oid, files = self.hub.commit(repo), self.hub.files[repo]
        if match[3] not in (None, "main", oid):
            return self._json({"error": "Invalid rev"}, 404, "RevisionNotFound")
        if match[2] == "tree":
            return self._json(
                [
                    {
                        "type": "file",
                        "path": name,
                        "size": len(content),
                        "oid": hashlib.sha1(content).hexdigest(),
                    }
                    for name, content in sorted(files.items())
                ]
            )
        if match[2] != "resolve":
            siblings = [{"rfilename": name} for name in sorted(files)]
            return self._json({"id": repo, "sha": oid, "siblings": siblings})
        content = files[match[4]]
        etag = hashlib.sha1(content).hexdigest()
        return self._send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": oid})

    def _chunks(self):
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _json(self, value, status=200, code=None):
        headers = {"Content-Type": "application/json"}
        if code:
            headers["X-Error-Code"] = code
        self._send(status, json.dumps(value).encode(), headers)

    def _send(self, status, body, headers=None):
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": len(body)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _large(path):
    return path.endswith(".safetensors")
