"""The HTTP API over real TLS: who may do what, what is written down of it, and clients that mean no good."""

import base64
import hashlib
import http.client
import json
import os
import socket
import ssl
import stat
import time
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from conftest import petiole
from servers import TOKEN, Worker, form
from waiting import wait_until

SCOPES = ("upload", "read", "send", "admin")
# host/api/src/server/connections.rs
HEAD_TIMEOUT = 15
CONNECTIONS_OF_ONE = 128


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


class Secure(Worker):
    """A worker with TLS, and a token for each scope."""

    def __init__(self, folder, authority, *, settings="", client_ca=None, names=("localhost", "127.0.0.1"), **rest):
        super().__init__(folder, **rest)
        self.folder, self.authority = Path(folder), authority
        self.http = f"https://127.0.0.1:{self.port}"
        self.ca = self.folder / "ca.pem"
        authority.cert_pem.write_to_path(self.ca)
        self.write_certificate(names)
        self.tokens = {scope: token(scope, scope) for scope in SCOPES}
        tls = 'cert = "cert.pem"\nkey = "key.pem"\n'
        if client_ca is not None:
            client_ca.cert_pem.write_to_path(self.folder / "clients.pem")
            tls += 'client_ca = "clients.pem"\n'
        entries = "".join(
            f'[[http.tokens]]\nname = "{made["name"]}"\nsha256 = "{made["sha256"]}"\nscopes = ["{scope}"]\n'
            for scope, made in self.tokens.items()
        )
        text = f'audit = "audit.jsonl"\n{settings}\n[http.tls]\n{tls}\n{entries}'
        (self.folder / "petiole.toml").write_text(text)

    def write_certificate(self, names):
        """Returns the certificate as DER."""
        issued = self.authority.issue_cert(*names)
        (self.folder / "key.pem").touch(mode=0o600)  # one that others may read is refused
        issued.private_key_pem.write_to_path(self.folder / "key.pem")
        (self.folder / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        return ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())

    def context(self, certificate=None):
        context = ssl.create_default_context(cafile=self.ca)
        if certificate is not None:
            certificate.configure_cert(context)
        return context

    def ask(self, method, path, token=None, *, body=None, headers=None, certificate=None, source=None):
        """Status, headers and body of an answer."""
        connection = http.client.HTTPSConnection(
            "127.0.0.1",
            self.port,
            timeout=60,
            context=self.context(certificate),
            source_address=(source, 0) if source else None,
        )
        headers = dict(headers or {})
        if token is not None:
            headers["authorization"] = f"Bearer {self.tokens.get(token, {'token': token})['token']}"
        try:
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def is_ready(self):
        self.check()
        try:
            return self.ask("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def audit(self):
        return [json.loads(line) for line in (self.folder / "audit.jsonl").read_text().splitlines()]

    def petiole(self, *arguments, scope="admin", ca=None, **env):
        """The command line with a token of that scope, elsewhere than in the worker's folder."""
        ca = self.ca if ca is None else ca
        env = {"PETIOLE_TOKEN": self.tokens[scope]["token"], "PETIOLE_API_CA": ca, **env}
        folder = self.folder / "client"
        folder.mkdir(exist_ok=True)
        arguments = [*arguments, "--to", self.http]
        return petiole(*arguments, env={name: str(value) for name, value in env.items()}, check=False, cwd=folder)


def token(name, scope):
    return json.loads(petiole("token", "--name", name, "--scope", scope, "--json").stdout)


@pytest.fixture
def start_secure(tmp_path, queue, folder, authority):
    workers = []

    def start(**settings):
        rest = {
            "name": queue,
            "broker": f"sqlite://{tmp_path}/broker.db",
            "results": f"sqlite://{tmp_path}/results.db",
            "store": f"file://{tmp_path}/modules",
            "queues": [queue],
            "env": {"PETIOLE_CACHE": folder / "cache", "PETIOLE_TOKEN": ""},
            **settings,
        }
        worker = Secure(tmp_path, authority, **rest).start()
        workers.append(worker)
        return worker.wait_ready()

    yield start
    for worker in workers:
        worker.kill()


def test_what_each_scope_opens(start_secure):
    worker = start_secure()
    call = json.dumps({"task": "no.such"})
    table = [
        ("GET", "/v1/modules", None, "read"),
        ("GET", "/v1/modules/a.b", None, "read"),
        ("GET", "/v1/tasks", None, "read"),
        ("GET", "/v1/tasks/a.b.c", None, "read"),
        ("GET", "/v1/results/x", None, "read send"),
        ("POST", "/v1/send", call, "send"),
        ("POST", "/v1/modules/a.b", "no component", "upload"),
        ("POST", "/v1/modules/a.b/activate", '{"version":1}', ""),
        ("POST", "/v1/modules/a.b/rollback", None, ""),
        ("DELETE", "/v1/modules/a.b?force=true", None, ""),
    ]
    for method, path, body, opens in table:
        headers = {"content-type": "application/json"}
        for scope in SCOPES:
            status, headers_back, text = worker.ask(method, path, scope, body=body, headers=headers)
            is_open = scope == "admin" or scope in opens.split()
            assert (status != 403) == is_open, (method, path, scope, status, text)
            assert status not in (401, 500), (method, path, scope, text)
            if status == 403:
                assert "insufficient_scope" in headers_back["www-authenticate"]
    for method, path, body, _ in table[:4]:
        assert worker.ask(method, path, "not a token at all", body=body)[0] == 401
        status, headers, text = worker.ask(method, path, body=body)
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        assert "error" in json.loads(text)
    for path in ("/healthz", "/readyz", "/metrics"):
        assert worker.ask("GET", path)[0] == 200


def test_the_command_line_checks_the_certificate(start_secure, component, tmp_path):
    worker = start_secure()
    push = ["push", component("probe"), "--name", "probe.tasks"]
    done = worker.petiole(*push)
    assert done.returncode == 0, done.stderr
    assert "probe.tasks.add(x: s64, y: s64) -> s64" in worker.petiole("tasks").stdout
    strange = tmp_path / "strange.pem"
    trustme.CA().cert_pem.write_to_path(strange)
    for ca in (strange, "/etc/ssl/certs/ca-certificates.crt"):
        refused = worker.petiole(*push, ca=ca)
        assert refused.returncode in (2, 3), refused.stderr
    assert worker.petiole(*push, ca=strange).returncode == 3
    # A good authority, but another name.
    named = worker.http.replace("127.0.0.1", "127.0.0.5")
    other = petiole("tasks", "--to", named, "--ca", worker.ca, check=False, cwd=tmp_path / "client")
    assert other.returncode == 3 and "certificate" in other.stderr, other.stderr
    flag = worker.petiole("tasks", "--ca", worker.ca, ca=strange)
    assert flag.returncode == 0, flag.stderr


def test_plain_http_gets_no_answer(start_secure):
    worker = start_secure()
    answer = b""
    with socket.create_connection(("127.0.0.1", worker.port), timeout=2 * HEAD_TIMEOUT) as plain:
        plain.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        try:
            while part := plain.recv(4096):
                answer += part
        except ConnectionResetError:
            pass
    assert b"HTTP" not in answer and len(answer) < 100, answer


def test_clients_show_certificates(start_secure, component):
    clients = trustme.CA()
    worker = start_secure(client_ca=clients)
    build = clients.issue_cert("build@example.com", common_name="build", organization_name="Example")
    # Probes need none.
    assert worker.ask("GET", "/healthz")[0] == 200
    status, _, text = worker.ask("GET", "/v1/tasks", "read")
    assert status == 403 and b"no client certificate" in text
    assert worker.ask("GET", "/v1/tasks", certificate=build)[0] == 401
    assert worker.ask("GET", "/v1/tasks", "read", certificate=build)[0] == 200
    # Of an authority that is not the clients': not even HTTP.
    with pytest.raises(OSError):
        worker.ask("GET", "/healthz", certificate=worker.authority.issue_cert("build@example.com"))

    folder = worker.folder
    build.private_key_pem.write_to_path(folder / "build.key")
    (folder / "build.pem").write_bytes(b"".join(blob.bytes() for blob in build.cert_chain_pems))
    push = ["push", component("probe"), "--name", "probe.tasks"]
    refused = worker.petiole(*push, scope="upload")
    assert refused.returncode == 1 and "no client certificate" in refused.stderr, refused.stderr
    shown = {"PETIOLE_API_CERT": folder / "build.pem", "PETIOLE_API_KEY": folder / "build.key"}
    done = worker.petiole(*push, scope="upload", **shown)
    assert done.returncode == 0, done.stderr
    uploads = [entry for entry in worker.audit() if entry["action"] == "upload"]
    assert [entry["outcome"] for entry in uploads] == ["done"]
    assert uploads[0]["token"] == "upload" and "CN=build" in uploads[0]["certificate"]
    listed = worker.petiole("modules", "show", "probe.tasks", scope="read", **shown).stdout
    assert "token upload, certificate" in listed and "CN=build" in listed


def test_certificates_are_read_again(start_secure):
    worker = start_secure()

    def served():
        with socket.create_connection(("127.0.0.1", worker.port)) as plain:
            with worker.context().wrap_socket(plain, server_hostname="localhost") as stream:
                return stream.getpeercert(binary_form=True)

    before = served()
    # A half-written pair is not taken.
    good = (worker.folder / "cert.pem").read_bytes()
    (worker.folder / "cert.pem").write_bytes(b"nonsense")
    wait_until(lambda: "keeps its old certificates" in worker.log(), worker.log)
    assert served() == before
    (worker.folder / "cert.pem").write_bytes(good)
    new = worker.write_certificate(("localhost",))
    assert new != before
    wait_until(lambda: served() == new, "the new certificate is served", poll=0.2)


def test_too_many_requests(start_secure):
    worker = start_secure(settings="http.rate = 5")
    answers = [worker.ask("GET", "/v1/tasks", "read")[:2] for _ in range(40)]
    statuses = [status for status, _ in answers]
    assert set(statuses) == {200, 429}, statuses
    retry = next(headers["retry-after"] for status, headers in answers if status == 429)
    assert 1 <= int(retry) <= 2
    assert [worker.ask("GET", "/healthz")[0] for _ in range(20)] == [200] * 20
    # Another address has a limit of its own, but the token has one too.
    wait_until(lambda: worker.ask("GET", "/v1/tasks", "send", source="127.0.0.3")[0] == 403, "other addresses go on")


def test_wrong_tokens(start_secure):
    worker = start_secure()
    statuses = [worker.ask("GET", "/v1/tasks", f"guess number {n}")[0] for n in range(30)]
    assert statuses[:10] == [401] * 10 and 429 in statuses[10:], statuses
    assert worker.ask("GET", "/v1/tasks", "read")[0] == 200, "who shares the address is not locked out"
    refused = [entry for entry in worker.audit() if entry["action"] == "request"]
    assert len(refused) == statuses.count(401), "the audit is not flooded"
    assert {entry["request"] for entry in refused} == {"GET /v1/tasks"}
    assert "guess" not in worker.log() + (worker.folder / "audit.jsonl").read_text()


def test_slow_clients_keep_nobody_waiting(start_secure):
    worker = start_secure()
    slow = [socket.create_connection(("127.0.0.1", worker.port), source_address=("127.0.0.2", 0)) for _ in range(150)]
    for connection in slow[:100]:
        # The beginning of a TLS handshake, and never the rest.
        connection.sendall(b"\x16\x03\x01\x02\x00\x01")
    heads = []
    for _ in range(20):
        plain = socket.create_connection(("127.0.0.1", worker.port), source_address=("127.0.0.4", 0))
        stream = worker.context().wrap_socket(plain, server_hostname="localhost")
        stream.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n")
        heads.append(stream)
    started = time.monotonic()
    for _ in range(20):
        assert worker.ask("GET", "/v1/tasks", "read")[0] == 200
    print(f"20 requests beside 170 slow clients: {time.monotonic() - started:.2f} s")

    def is_closed(connection):
        connection.setblocking(False)
        try:
            return connection.recv(1) == b""
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError:
            return True

    # One address has its share: what is more is closed at once.
    wait_until(lambda: sum(map(is_closed, slow)) >= len(slow) - CONNECTIONS_OF_ONE, "the share is kept to")
    # One byte at a time is no progress, and a head that does not end is cut off.
    deadline = 2 * HEAD_TIMEOUT

    def all_closed():
        for stream in heads:
            try:
                stream.sendall(b"x")
            except OSError:
                pass
        return all(map(is_closed, slow + heads))

    wait_until(all_closed, "slow clients are cut off", deadline=deadline, poll=0.5)
    for connection in slow + heads:
        connection.close()


def test_a_body_that_does_not_come(start_secure):
    worker = start_secure()
    plain = socket.create_connection(("127.0.0.1", worker.port))
    with worker.context().wrap_socket(plain, server_hostname="localhost") as stream:
        head = f"POST /v1/send HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {worker.tokens['send']['token']}\r\n"
        stream.sendall(f"{head}content-type: application/json\r\ncontent-length: 100\r\n\r\n{{".encode())
        stream.settimeout(2 * HEAD_TIMEOUT)
        assert stream.recv(100).startswith(b"HTTP/1.1 408 ")
    # More than any task takes, announced.
    status, _, text = worker.ask("POST", "/v1/send", "send", headers={"content-length": str(1 << 40)})
    assert status == 413, text


def test_the_audit(start_secure, component):
    worker = start_secure(settings='[grants."probe.*"]\nhttp = ["https://other.example.com"]')
    manifest = worker.folder / "manifest.toml"
    manifest.write_text('[capabilities]\nhttp = ["https://api.example.com"]\n')
    push = ["push", component("probe"), "--name", "probe.tasks"]
    assert worker.petiole(*push, scope="upload").returncode == 0
    done = worker.petiole(*push, "--manifest", manifest, scope="upload")
    assert done.returncode == 0, done.stderr
    assert worker.petiole("modules", "rollback", "probe.tasks").returncode == 0
    assert worker.petiole("modules", "activate", "probe.tasks", "2").returncode == 0
    assert worker.petiole("modules", "activate", "probe.tasks", "7").returncode == 2
    assert worker.petiole("modules", "remove", "probe.tasks", scope="read").returncode == 1
    assert worker.petiole("modules", "remove", "probe.tasks", "--force").returncode == 0
    status, _, _ = worker.ask("POST", "/v1/modules/bad.module", "upload", body=b"\0asm\x0d\0\x01\0")
    assert status == 422
    worker.ask("GET", "/v1/tasks/%1b[2J%0a{forged}", "upload")

    file = worker.folder / "audit.jsonl"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_bytes().isascii()
    entries = worker.audit()
    keys = ("action", "outcome", "token", "module", "version")
    assert [tuple(entry.get(key) for key in keys) for entry in entries] == [
        ("upload", "done", "upload", "probe.tasks", 1),
        ("upload", "done", "upload", "probe.tasks", 2),
        ("rollback", "done", "admin", "probe.tasks", 1),
        ("activate", "done", "admin", "probe.tasks", 2),
        ("activate", "refused", "admin", "probe.tasks", None),
        ("request", "refused", "read", None, None),
        ("remove", "done", "admin", "probe.tasks", None),
        ("upload", "refused", "upload", "bad.module", None),
        ("request", "refused", "upload", None, None),
    ]
    plain, asking = entries[0], entries[1]
    assert plain["sha256"] == hashlib.sha256(component("probe").read_bytes()).hexdigest()
    assert "manifest_sha256" not in plain and "capabilities" not in plain
    assert asking["manifest_sha256"] == hashlib.sha256(manifest.read_bytes()).hexdigest()
    [task] = asking["capabilities"]
    assert "probe.tasks.add" in task["tasks"]
    assert task["asked"]["http"] == ["https://api.example.com"]
    assert not task["granted"].get("http")
    assert any("https://api.example.com" in refused for refused in task["refused"])
    assert "export" in entries[7]["reason"]
    assert all(entry["address"] == "127.0.0.1" and entry["time"].endswith("Z") for entry in entries)
    # The log has the same.
    assert worker.log().count('"action":"upload"') == 3
    shown = json.dumps(entries)
    assert not any(made["token"] in shown + worker.log() for made in worker.tokens.values())


# minisign's format, written down a second time: https://jedisct1.github.io/minisign/#signature-format
class Signer:
    def __init__(self):
        self.key, self.id = Ed25519PrivateKey.generate(), os.urandom(8)

    def public(self):
        raw = self.key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return base64.b64encode(b"Ed" + self.id + raw).decode()

    def sign(self, data, comment="timestamp:1", legacy=False):
        algorithm, signed = (b"Ed", data) if legacy else (b"ED", hashlib.blake2b(data).digest())
        signature = self.key.sign(signed)
        covering = self.key.sign(signature + comment.encode())
        first, last = (base64.b64encode(part).decode() for part in (algorithm + self.id + signature, covering))
        return f"untrusted comment: by a test\n{first}\ntrusted comment: {comment}\n{last}\n"


def test_signatures(start_secure, component, tmp_path):
    signer, other = Signer(), Signer()
    worker = start_secure(settings=f'[signatures]\nkeys = ["{signer.public()}"]')
    code = component("probe").read_bytes()
    manifest = b"[defaults]\ntime_limit = 5\n"
    covering = f"timestamp:1\tmanifest-sha256:{hashlib.sha256(manifest).hexdigest()}"
    good = signer.sign(code)

    def push(signature, data=code, manifest=None, name="probe.tasks"):
        signature = None if signature is None else signature.encode()
        body, content_type = form(component=data, manifest=manifest, signature=signature)
        headers = {"content-type": content_type}
        status, _, text = worker.ask("POST", f"/v1/modules/{name}", "upload", body=body, headers=headers)
        answer = json.loads(text)
        return status, answer.get("error", answer.get("signed_by"))

    key = f"{int.from_bytes(signer.id, 'little'):016X}"
    assert push(good) == (201, key)
    assert push(signer.sign(code, covering), manifest=manifest) == (201, key)
    assert push(signer.sign(code, "module:probe.tasks")) == (201, key)
    table = [
        ("is not signed", push(None)),
        ("not of this component", push(good, code + b"\0\x02\x01x")),
        ("not of this component", push(signer.sign(code + b"x"))),
        ("or was altered", push(good.replace("timestamp:1", "timestamp:2"))),
        ("is not trusted here", push(other.sign(code))),
        ("legacy", push(signer.sign(code, legacy=True))),
        ("does not cover the manifest", push(good, manifest=manifest)),
        ("is for another manifest", push(signer.sign(code, covering))),
        ("is for another manifest", push(signer.sign(code, covering), manifest=manifest + b"\n")),
        ("for module other.tasks", push(signer.sign(code, "module:other.tasks"))),
        ("more than once", push(signer.sign(code, "module:probe.tasks module:other.tasks"))),
        ("not in minisign's format", push("signed, honestly")),
        ("not in minisign's format", push("\n".join(good.splitlines()[:3]))),
        ("more than", push(good + "x" * 10_000, b"small")),
    ]
    for reason, (status, said) in table:
        assert status == 422 and reason in said, (reason, status, said)

    # Somebody who can write to the store, but has no key.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    store = f"file://{tmp_path}/modules"
    pushed = petiole("push", component("my_app"), "--name", "probe.tasks", "--store", store, cwd=elsewhere)
    assert "is active" in pushed.stdout
    wait_until(lambda: "probe.tasks is not signed" in worker.log(), worker.log)
    assert worker.ask("GET", "/v1/tasks/probe.tasks.add", "read")[0] == 200, "what was signed goes on"
    assert worker.ask("GET", "/v1/tasks/probe.tasks.run_task", "read")[0] == 404
    # Nor can an administrator make it run here.
    number = json.loads(worker.ask("GET", "/v1/modules/probe.tasks", "read")[2])["active"]
    activate = json.dumps({"version": number})
    headers = {"content-type": "application/json"}
    status, _, text = worker.ask("POST", "/v1/modules/probe.tasks/activate", "admin", body=activate, headers=headers)
    assert status == 422 and b"this worker refuses it" in text, text


def test_the_token_of_old_opens_everything(start_secure):
    worker = start_secure(env={"PETIOLE_TOKEN": TOKEN})
    for method, path in (("GET", "/v1/modules"), ("POST", "/v1/modules/a.b/rollback"), ("GET", "/v1/results/x")):
        assert worker.ask(method, path, TOKEN)[0] in (200, 404)
