"""The example tasks that reach out of their sandbox, each with what its manifest asks for and a worker grants."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from celery import group

from conftest import petiole, producer
from servers import Node, Postgres
from test_examples import EXAMPLES
from waiting import wait_until

PAGE = b"""<!DOCTYPE html><html lang="en"><head><title>Ink</title><meta name="description" content="All of it."></head>
<body><h1>Ink &amp; paper</h1><p>Four more words here.</p><a href="/order">order</a></body></html>"""


@pytest.fixture
def app(amqp_url, redis_url, queue):
    with producer(amqp_url, redis_url, queue) as app:
        yield app


@pytest.fixture
def start(queue, start_worker, tmp_path):
    """A worker with this configuration."""

    def start(toml, env=None):
        config = tmp_path / "petiole.toml"
        config.write_text(toml)
        return start_worker(queue, "--config", config, store=f"file://{tmp_path}/modules", env=env or {})

    return start


@pytest.fixture
def push(component, tmp_path):
    """Pushes an example with its manifest, where the hosts of that are replaced by the test's own."""

    def push(name, worker, hosts=None, check=True):
        manifest = (EXAMPLES / name / "manifest.toml").read_text()
        for theirs, ours in (hosts or {}).items():
            assert theirs in manifest
            manifest = manifest.replace(theirs, ours)
        file = tmp_path / f"{name}.toml"
        file.write_text(manifest)
        arguments = ["push", component(name), "--name", name, "--manifest", file, "--to", worker.http]
        return petiole(*arguments, check=check)

    return push


def failure(result):
    """The class of the exception and its first argument."""
    error = result.get(timeout=60, propagate=False)
    return type(error).__name__, error.args[0]


class WebSite(ThreadingHTTPServer):
    """A web server on this machine, which keeps what it is asked for."""

    def __init__(self, pages):
        self.pages, self.asked = pages, []
        super().__init__(("127.0.0.1", 0), self.Answer)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.server.asked.append(self.path)
            status, headers, body = self.server.pages.get(self.path, (404, {}, b"none"))
            self.send_response(status)
            for name, value in {"content-type": "text/html", **headers, "content-length": len(body)}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    def __exit__(self, *error):
        self.shutdown()
        super().__exit__(*error)


def test_a_page_is_fetched_and_summarised(app, start, push):
    with WebSite({"/": (200, {}, PAGE)}) as other, WebSite({}) as site:
        site.pages = {
            "/": (200, {}, PAGE),
            "/old": (301, {"location": "/"}, b""),
            "/away": (302, {"location": other.url}, b""),
            "/loop": (302, {"location": "/loop"}, b""),
            "/large": (200, {}, b" " * (3 << 20)),
            "/image": (200, {"content-type": "image/png"}, b""),
            "/broken": (500, {}, b""),
        }
        worker = start(f'[grants.page_summary]\nhttp = ["GET {site.url}"]\n')
        # The module asks for both servers, and is granted one.
        push("page_summary", worker, {"https://*.example.com": f'{site.url}", "GET {other.url}'})
        summarize = app.signature("page_summary.summarize")
        of = lambda url: summarize.clone(args=(url,)).delay()  # noqa: E731

        assert of(f"{site.url}/old").get(timeout=60) == {
            "url": f"{site.url}/",
            "title": "Ink",
            "description": "All of it.",
            "language": "en",
            "headings": [{"level": 1, "text": "Ink & paper"}],
            "words": 8,
            "links": [f"{site.url}/order"],
        }
        for path, expected in {
            "/none": ("NotFound", f"{site.url}/none"),
            "/loop": ("TooManyRedirects", 5),
            "/large": ("TooLarge", 2 << 20),
            "/image": ("NotHtml", "image/png"),
            "/broken": ("Status", 500),
            "/away": ("NotGranted", f"{other.url}/"),
        }.items():
            assert failure(of(site.url + path)) == expected
        assert failure(of(other.url)) == ("NotGranted", f"{other.url}/")
        # An address that nobody asked for, and the other names of a granted one.
        secure, renamed = site.url.replace("http:", "https:"), site.url.replace("127.0.0.1", "localhost")
        for url in ("http://169.254.169.254/", secure, renamed):
            assert failure(of(url))[0] == "NotGranted"
        assert other.asked == []
        assert failure(of("no url"))[0] == "InvalidUrl"


def test_an_upload_says_which_grant_is_missing(app, start, push):
    worker = start('[grants."other.*"]\nhttp = ["https://example.com"]\n')
    for name, capability in (("page_summary", "http"), ("page_views", "keyvalue")):
        refused = push(name, worker, check=False)
        assert refused.returncode != 0
        assert f"`{capability}`" in refused.stderr, refused.stderr
    # Sockets are in every standard library, so the task is there; it has no host to connect to.
    pushed = push("store_result", worker).stdout
    assert "tcp db.example.com:5432" in pushed and "DATABASE_URL" in pushed, pushed
    assert failure(app.signature("store_result.on_error_task", args=("1f",)).delay())[0] == "KeyError"


@pytest.fixture
def postgres(tmp_path):
    postgres = Postgres(tmp_path / "postgres").start()
    postgres.query((EXAMPLES / "store_result/migration.sql").read_text())
    yield postgres
    postgres.stop()


def test_results_are_stored_in_postgresql(app, redis_url, start, push, component, postgres):
    address = f"127.0.0.1:{postgres.port}"
    worker = start(
        '[secrets]\nDATABASE_URL = { env = "DATABASE_OF_TEST" }\n'
        f'[grants.store_result]\nsecrets = ["DATABASE_URL"]\ntcp = ["{address}"]\n',
        env={"DATABASE_OF_TEST": postgres.url},
    )
    push("store_result", worker, {"db.example.com:5432": address})
    petiole("push", component("my_app"), "--name", "my_app.tasks", "--to", worker.http)
    rows = lambda: postgres.query("select task_id, status, result from task_results order by status")  # noqa: E731

    tasks = {}
    for n in (1000, 10**9):
        task = app.signature("my_app.tasks.run_task", args=(n,))
        task.link(app.signature("store_result.on_success_task"))
        task.link_error(app.signature("store_result.on_error_task"))
        tasks[n] = task.apply_async()
    wait_until(lambda: len(rows()) == 2, lambda: f"two rows, but {rows()}\n{worker.log()[-3000:]}")
    failed, succeeded = rows()
    assert failed == [tasks[10**9].id, "FAILURE", ""]
    assert succeeded[:2] == [tasks[1000].id, "SUCCESS"]
    assert json.loads(succeeded[2]) == tasks[1000].get(timeout=60)

    # A task that is delivered again changes nothing.
    again = app.signature("store_result.on_success_task", args=({"count": 0},))
    assert again.apply_async(parent_id=tasks[1000].id).get(timeout=60) is False
    assert rows() == [failed, succeeded]
    # A row that the database does not take is a failure, one that it may take later a retry.
    postgres.query("drop table task_results")
    error, message = failure(app.signature("store_result.on_error_task", args=("1f",)).delay())
    assert (error, "does not exist" in message) == ("TokioPostgresError", True), message
    postgres.stop()
    away = app.signature("store_result.on_error_task", args=("1f",)).delay()
    wait_until(lambda: away.state == "RETRY", lambda: f"a retry, but {away.state}: {away.result}")
    assert type(away.result).__name__ == "ConnectionError"
    assert postgres.PASSWORD not in worker.log()


def test_page_views_are_counted_in_redis(app, redis_url, redis_client, start, push):
    worker = start(f'keyvalue = "{redis_url}"\n[grants.page_views]\nkeyvalue = true\n')
    push("page_views", worker)
    page = f"/{worker.port}"
    see = lambda visitor: app.signature("page_views.record_view", args=(page, f"visitor {visitor}"))  # noqa: E731
    seen = group(see(number % 7) for number in range(50)).apply_async().get(timeout=60)
    # Side by side, and each view counted once.
    assert sorted(views["views"] for views in seen) == list(range(1, 51))
    views = app.signature("page_views.views")
    assert views.clone(args=(page,)).delay().get(timeout=60) == {"views": 50, "visitors": 7}
    assert views.clone(args=("/none",)).delay().get(timeout=60) == {"views": 0, "visitors": 0}
    assert redis_client.get(f"petiole:kv:page_views:views:{page}") == "50"


def test_page_views_are_counted_by_petiole_dev(push, tmp_path):
    """They are kept in a file of its own, so that they are there when it starts again."""
    (tmp_path / "petiole.toml").write_text("[grants.page_views]\nkeyvalue = true\n")

    def send(task, *args):
        sent = petiole("send", f"page_views.{task}", "--wait", "--args", json.dumps(args), cwd=tmp_path)
        return json.loads(sent.stdout)

    for time in (1, 2):
        dev = Node(tmp_path, "dev", ["dev"]).start()
        try:
            dev.wait_ready()
            push("page_views", dev)
            assert send("record_view", "/", "ada") == {"views": 2 * time - 1, "visitors": 1}
            assert send("record_view", "/", "ada") == {"views": 2 * time, "visitors": 1}
            assert send("views", "/") == {"views": 2 * time, "visitors": 1}
            assert dev.stop() == 0, dev.log()
        finally:
            dev.kill()
