"""The page in a real browser: on a phone, on paper, and what it asks the network for."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import threading
from collections.abc import Iterator
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agent.report.page import page
from config.text import Language
from tests.agent.report.winter import facts

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PHONE = (390, 844)
WAIT_S = 120
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')

# Tells what is wider than the window, and which texts are too small to be read.
MEASURE = """
<script>
const wide = [], small = [];
for (const each of document.querySelectorAll("body *")) {
  const box = each.getBoundingClientRect();
  if (box.width && box.right > innerWidth + 0.5) wide.push(each.outerHTML.slice(0, 80));
}
for (const each of document.querySelectorAll("svg text")) {
  const scale = each.ownerSVGElement.getBoundingClientRect().width / 360;
  if (10 * scale < 9) small.push(each.textContent);
}
parent.document.documentElement.innerHTML = "<pre>" + JSON.stringify(
  {wide, small, scroll: document.documentElement.scrollWidth, inner: innerWidth}
).replace(/</g, "&lt;") + "</pre>";
</script>
"""


@pytest.fixture(scope="session")
def chromium() -> str:
    if CHROMIUM is None:
        reason = "no chromium: apt install chromium fonts-noto-cjk"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return CHROMIUM


def run(chromium: str, folder: Path, *arguments: str) -> str:
    options = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
        *("--disable-background-networking", "--disable-extensions", "--disable-sync"),
        *("--no-first-run", "--disable-dev-shm-usage"),
        f"--user-data-dir={folder / 'profile'}",
    ]
    done = subprocess.run(
        [chromium, *options, *arguments],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=True,
    )
    return done.stdout


@pytest.fixture(params=["ja", "en"])
def language(request: pytest.FixtureRequest) -> Language:
    found: Language = request.param
    return found


@pytest.fixture
def file(tmp_path: Path, language: Language) -> Path:
    found = tmp_path / "report.html"
    found.write_text(page(facts(), language), encoding="utf-8")
    return found


def measured(chromium: str, file: Path, html: str) -> dict[str, object]:
    """Let the page measure itself: without its policy, which forbids every script.

    In a frame: a window of this browser is never as narrow as a phone.
    """
    inside = POLICY.sub("", html).replace("</body>", f"{MEASURE}</body>")
    width, height = PHONE
    frame = f'<iframe width="{width}" height="{height}" style="border:0" srcdoc="{escape(inside)}">'
    file.write_text(f'<meta charset="utf-8">{frame}</iframe>', encoding="utf-8")
    said = run(chromium, file.parent, "--virtual-time-budget=5000", "--dump-dom", file.as_uri())
    found = re.search(r"<pre>(.*)</pre>", said, re.DOTALL)
    assert found is not None, said[:500]
    document: dict[str, object] = json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">"))
    return document


def test_on_a_phone_nothing_is_wider_than_the_window(chromium: str, file: Path) -> None:
    said = measured(chromium, file, file.read_text(encoding="utf-8"))
    assert said["inner"] == PHONE[0]
    assert said["scroll"] == PHONE[0]
    assert said["wide"] == []
    assert said["small"] == []


def test_what_is_too_wide_is_found(chromium: str, file: Path) -> None:
    """The negative control of the one above."""
    html = file.read_text(encoding="utf-8").replace(
        "</footer>", "</footer><p><b>a&nbsp;very&nbsp;long</b><i style='margin-left:30em'>x</i></p>"
    )
    assert measured(chromium, file, html)["wide"] != []


def test_a_picture_of_it_can_be_taken(chromium: str, file: Path) -> None:
    picture = file.with_suffix(".png")
    size = f"--window-size={PHONE[0]},{PHONE[1]}"
    run(chromium, file.parent, size, f"--screenshot={picture}", file.as_uri())
    content = picture.read_bytes()
    assert struct.unpack(">II", content[16:24]) == PHONE
    assert len(content) > 20_000  # an empty page has some 3 kB


def test_on_paper_it_has_few_pages_of_a4(chromium: str, file: Path) -> None:
    printed = file.with_suffix(".pdf")
    run(
        chromium,
        file.parent,
        "--no-pdf-header-footer",
        f"--print-to-pdf={printed}",
        file.as_uri(),
    )
    content = printed.read_bytes()
    pages = len(re.findall(rb"/Type\s*/Page\b", content))
    assert 3 <= pages <= 6
    boxes = {
        tuple(round(float(side)) for side in box.split())
        for box in re.findall(rb"/MediaBox\s*\[([^\]]*)\]", content)
    }
    assert boxes == {(0, 0, 595, 842)}


class _Site(ThreadingHTTPServer):
    """Serves one page and notes everything that is asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.html = b""
        self.asked: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: _Site

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(self.server.html)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[_Site]:
    with _Site() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


FOREIGN = '<img src="/foreign.png"><script src="/foreign.js"></script>'


@pytest.mark.parametrize(
    ("change", "asks"),
    [
        (lambda html: html, False),
        (lambda html: html.replace("</footer>", f"</footer>{FOREIGN}"), False),
        (lambda html: POLICY.sub("", html).replace("</footer>", f"</footer>{FOREIGN}"), True),
    ],
    ids=["as it is", "with something foreign, which its policy forbids", "negative control"],
)
def test_it_asks_the_network_for_nothing(
    chromium: str, site: _Site, tmp_path: Path, change: object, asks: bool
) -> None:
    assert callable(change)
    site.html = change(page(facts(), "en")).encode()
    picture = f"--screenshot={tmp_path / 'picture.png'}"
    run(chromium, tmp_path, picture, f"http://127.0.0.1:{site.server_port}/report.html")
    foreign = [path for path in site.asked if path not in ("/report.html", "/favicon.ico")]
    assert "/report.html" in site.asked
    assert bool(foreign) is asks
