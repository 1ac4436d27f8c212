"""The example tasks, called by Celery: what people copy from has to work."""

import base64
import json
import os
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

from conftest import petiole, producer

EXAMPLES = Path(__file__).parents[2] / "tasks-wasm"


@pytest.fixture
def call(amqp_url, redis_url, queue, start_worker, tmp_path):
    """Pushes a component to a worker, and calls its functions by Celery."""
    worker = start_worker(queue, store=f"file://{tmp_path}/modules")
    with producer(amqp_url, redis_url, queue) as app:

        def push(file):
            petiole("push", file, "--name", "example.tasks", "--to", worker.http)
            return lambda name, *args: app.signature(f"example.tasks.{name}", args=args).delay().get(timeout=60)

        yield push


def png(width, height):
    """A red picture, in the PNG format (its sections 5 and 11)."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = (b"\0" + b"\xff\0\0" * width) * height
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def test_a_thumbnail(call, component):
    made = call(component("thumbnail"))("thumbnail", png(400, 200), 100, "png")
    assert struct.unpack(">II", base64.b64decode(made)[16:24]) == (100, 50)


def test_statistics_of_a_csv_file(call, component):
    summary = call(component("csv_stats"))("summarize", "city,people\nUlm,128\nJena,110\nTrier,\n")
    assert summary["rows"] == 3
    city, people = summary["columns"]
    assert (city["name"], people["name"], people["missing"]) == ("city", "people", 1)
    assert (people["values"]["numbers"]["mean"], city["values"]["texts"]["distinct"]) == (119, 3)


def test_markdown_is_made_safe(call, component):
    html = call(component("markdown"))("to_html", "**safe** <script>alert(1)</script>")
    assert "<strong>safe</strong>" in html
    assert "script" not in html


def test_a_search_in_documents(call, component):
    documents = [{"name": "a", "text": "one\ntwo"}, {"name": "b", "text": "Two"}]
    hits = call(component("text_search"))("search", documents, "two", True)
    assert [(hit["document"], hit["line"], hit["matched"]) for hit in hits] == [("a", 2, "two"), ("b", 1, "Two")]


def test_a_task_in_javascript(call):
    price = call(EXAMPLES / "javascript_pricing/javascript_pricing.wasm")
    cart = [{"sku": "novel", "tags": ["book"], "unit_cents": 1000, "quantity": 3}]
    quote = price("price_cart", cart, [{"percent_off": {"tag": "book", "percent": 10}}])
    assert (quote["subtotal_cents"], quote["total_cents"]) == (3000, 2700)
    with pytest.raises(Exception) as failure:
        price("price_cart", [], [])
    assert type(failure.value).__name__ == "EmptyCart"


def build(name, tmp_path):
    """Builds an example by its script, in a copy of its folder."""
    folder = tmp_path / name
    shutil.copytree(EXAMPLES / name, folder, ignore=shutil.ignore_patterns(".venv", "*.wasm"))
    built = subprocess.run(["sh", "build.sh"], cwd=folder, env=os.environ, capture_output=True, text=True, timeout=600)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_a_task_in_c(call, tmp_path):
    checksums = call(build("c_checksum", tmp_path) / "c_checksum.wasm")
    data = os.urandom(100_000)
    expected = {"bytes": len(data), "crc32": zlib.crc32(data), "adler32": zlib.adler32(data)}
    assert checksums("checksums", base64.b64encode(data).decode()) == expected


def test_a_task_in_python(call, tmp_path):
    folder = build("python_invoice", tmp_path)
    invoice = json.loads((folder / "example.json").read_text())
    rendered = call(folder / "python_invoice.wasm")("render_invoice", invoice)
    assert (rendered["net"], rendered["total"]) == ("72.20", "85.49")
    assert "Ink &amp; Co" in rendered["html"]
