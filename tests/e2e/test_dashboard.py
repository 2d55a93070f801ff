"""The pages in a real browser, over a real `privacy-finetuner serve`, as a team would begin.

The short version signs in for the first time, makes a trainer, plans a job, starts and cancels it,
in seconds and without a worker; an administrator opens every page of the menu, by day and night,
on a telephone and on a desk, and keeps a picture of each. The slow one lets the job run to its end
on the shipped sample, opens its report, and has the command line verify the certificate that the
page handed out.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import pyotp
import pytest
from tests.privacy_finetuner.watching import configured, served, token, watching

from privacy_runtime.world import SystemClock

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on the path: the pages cannot be shown"
)
PASSWORD = "glacier-umbrella-tundra-42"  # noqa: S105  opens nothing but this test
OTHER = "walnut-harbour-sleeve-77"
_START_S, _RUN_MS = 60, 300_000


@dataclass
class Served:
    """A service that runs."""

    address: str
    home: Path
    first: str
    faults: list[str] = field(default_factory=list)


@contextmanager
def _served(home: Path, *, workers: int, **variables: str) -> Iterator[Served]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "privacy_finetuner.cli.entry"]
    command = ["privacy-finetuner"] if shutil.which("privacy-finetuner") else words
    process = subprocess.Popen(
        [
            *_command(command), "serve", "--json", "--home", str(home), "--port", str(port),
            "--workers", str(workers),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **variables},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        said = json.loads(_document(process.stdout))
        address = f"http://127.0.0.1:{port}"
        _require_answer(address)
        yield Served(address, home, said["one_time_password"])
    finally:
        process.terminate()
        process.wait(timeout=30)
        if process.stdout is not None:
            process.stdout.close()


def _command(found: list[str]) -> list[str]:
    """The program of this environment, not another one that may be on the path."""
    beside = Path(sys.executable).with_name("privacy-finetuner")
    return [str(beside)] if beside.exists() else found


def _document(stdout: Any) -> str:
    """The one JSON document of `--json`, which may be spread over lines."""
    text = ""
    for line in stdout:
        text += line
        try:
            json.loads(text)
        except ValueError:
            continue
        return text
    raise AssertionError(f"serve ended before it said where it is: {text!r}")


def _require_answer(address: str) -> None:
    clock = SystemClock()
    end = clock.monotonic_s() + _START_S
    while clock.monotonic_s() < end:
        try:
            with urllib.request.urlopen(f"{address}/sign-in", timeout=5):  # noqa: S310  our own
                return
        except (urllib.error.URLError, ConnectionError):
            Event().wait(0.2)
    raise AssertionError(f"nothing answered at {address} within {_START_S} s")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, without a window."""
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=root)
        yield opened
        opened.close()


def _page(browser: Browser, served: Served, **options: Any) -> Page:
    """A page whose complaints are kept: what the policy refuses is one of them."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
    page = context.new_page()
    page.set_default_timeout(20_000)

    def keep(message: Any) -> None:
        # Refused on purpose (401), and a preview that was under way when the page was left.
        is_expected = "status of 4" in message.text or message.text.startswith("htmx:")
        if message.type in {"error", "warning"} and not is_expected:
            served.faults.append(f"{page.url}: {message.text}")

    page.on("console", keep)
    page.on("pageerror", lambda error: served.faults.append(f"{page.url}: {error}"))
    return page


class Authenticator:
    """A user's authenticator: each code is of a later step than the one before."""

    def __init__(self, seed: str) -> None:
        self._codes, self._last = pyotp.TOTP(seed), 0

    def code(self) -> str:
        """A code that the service will take: of this step, or of the next."""
        step = max(int(SystemClock().now().timestamp()) // 30, self._last + 1)
        self._last = step
        return str(self._codes.at(step * 30))


def _sign_in(page: Page, served: Served, name: str, password: str) -> None:
    page.goto(f"{served.address}/sign-in")
    page.fill("#f-name", name)
    page.fill("#f-password", password)
    page.press("#f-password", "Enter")


def _first_password(page: Page, served: Served, name: str, first: str, new: str) -> None:
    _sign_in(page, served, name, first)
    page.fill("#f-new", new)
    assert page.input_value("#f-password") == first, "what was typed is still in the form"
    page.fill("#f-again", new)
    page.click("text=Change the password")
    page.wait_for_selector("text=The password was changed")
    _sign_in(page, served, name, new)


def _first_admin(page: Page, served: Served) -> None:
    """From the one-time password to a signed-in administrator with a second factor."""
    _enrolled(page, served, "admin", served.first, PASSWORD)
    page.wait_for_selector("text=Nobody is here yet but you")


def _enrolled(page: Page, served: Served, name: str, first: str, password: str) -> None:
    """A password of their own and a second factor: what administrators and officers need."""
    _first_password(page, served, name, first, password)
    page.wait_for_url("**/account/second-factor")
    page.click("text=Show the QR code")
    page.wait_for_selector("svg.qr path")
    authenticator = Authenticator(page.inner_text("#seed").replace(" ", ""))
    page.fill("#f-code", authenticator.code())
    page.click("text=Confirm")
    page.wait_for_selector("#codes")
    assert page.locator("#codes li").count() == 10
    _sign_in(page, served, name, password)
    page.fill("#f-code", authenticator.code())
    page.press("#f-code", "Enter")
    page.wait_for_selector("h1:has-text('Overview')")


def _made_user(page: Page, name: str, role: str) -> str:
    page.click("a:has-text('Make a user')")
    page.fill("#f-name", name)
    page.check(f"input[value={role}]")
    page.click("button:has-text('Make the user')")
    return page.inner_text("#one-time")


def _signed_out(page: Page) -> None:
    page.click("text=Sign out")
    page.wait_for_url("**/sign-in**")


def _trainer(page: Page, served: Served) -> None:
    """A trainer of their own, made by the administrator and signed in."""
    _first_admin(page, served)
    first = _made_user(page, "tina", "trainer")
    _signed_out(page)
    _first_password(page, served, "tina", first, OTHER)
    page.wait_for_selector("h1:has-text('Overview')")


def _require_clean(served: Served) -> None:
    assert served.faults == []


def test_from_the_first_login_to_a_job_and_back(browser: Browser, tmp_path: Path) -> None:
    with _served(tmp_path / "home", workers=0) as served:
        page = _page(browser, served)
        _trainer(page, served)
        page.click("a:has-text('Start a job') >> nth=0")
        assert "ε = 3" in page.inner_text("#plan")
        page.fill("#f-epsilon", "1")
        page.wait_for_selector("#plan .promise:text-is('ε = 1')")
        page.click("button:has-text('Start the job')")
        page.wait_for_selector("text=The job was accepted")
        page.wait_for_selector("[data-live-status]:not(.lost)")
        page.click("text=Cancel…")
        page.wait_for_selector("dialog[open]")
        page.keyboard.press("Escape")
        page.wait_for_selector("dialog", state="detached")
        page.click("text=Cancel…")
        page.click("dialog button:has-text('Cancel the job')")
        page.wait_for_selector(".page-head .badge:has-text('cancelled')")
        _looks_well(page, served)
        page.context.close()
        _without_scripts(browser, served)
        _require_clean(served)


def _looks_well(page: Page, served: Served) -> None:
    """No page is wider than a telephone, the menu opens, a theme is kept, the keyboard suffices."""
    page.set_viewport_size({"width": 360, "height": 740})
    for path in ("/", "/jobs", "/jobs/new", "/budgets", "/certificates", "/keys", "/account"):
        page.goto(served.address + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
    assert not page.is_visible("nav.nav")
    page.click("text=Menu")
    assert page.is_visible("nav.nav")
    page.select_option("select[name=theme]", "dark")
    page.wait_for_selector("html[data-theme=dark]")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 19, 20)"
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(served.address + "/jobs")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def _without_scripts(browser: Browser, served: Served) -> None:
    """The same act by plain forms, in German."""
    page = _page(browser, served, java_script_enabled=False, locale="de-DE")
    _sign_in(page, served, "tina", OTHER)
    page.wait_for_url(served.address + "/")
    page.goto(served.address + "/jobs/new?epsilon=2")
    assert "ε = 2" in page.inner_text("#plan")
    page.select_option("select[name=locale]", "de")
    page.click(".preferences button")
    page.goto(served.address + "/jobs/new")
    page.click("button:has-text('Auftrag starten')")
    page.wait_for_url("**/jobs/job_*")
    assert "Der Auftrag ist angenommen" in page.inner_text("main")
    page.context.close()


def test_every_page_of_the_menu_fits_every_screen(browser: Browser, tmp_path: Path) -> None:
    """The pictures are below `tmp_path`: `--basetemp DIR` keeps them for somebody to look at."""
    with _served(tmp_path / "home", workers=0) as served:
        page = _page(browser, served)
        _first_admin(page, served)
        seen = _pictured(page, served, tmp_path, set())
        page.goto(served.address + "/users")
        first = _made_user(page, "olga", "privacy_officer")
        _signed_out(page)
        _enrolled(page, served, "olga", first, OTHER)
        seen |= _pictured(page, served, tmp_path, seen)
        assert {"/", "/datasets", "/budgets", "/parts", "/compliance", "/trail", "/users"} <= seen
        page.context.close()
        _require_clean(served)


def _pictured(page: Page, served: Served, folder: Path, known: set[str]) -> set[str]:
    """The pages of somebody's menu, each opened, measured and pictured if it is not known."""
    links = page.locator("nav.nav a[href]").all()
    places = {link.get_attribute("href") or "" for link in links} - known
    for theme in ("light", "dark"):
        page.select_option("select[name=theme]", theme)
        page.wait_for_selector(f"html[data-theme={theme}]")
        for width in (360, 1280):
            page.set_viewport_size({"width": width, "height": 900})
            for place in sorted(places):
                answer = page.goto(served.address + place)
                assert answer is not None
                assert answer.ok, place
                assert page.evaluate("document.documentElement.scrollWidth") <= width, place
                assert page.locator("main h1").count() == 1, place
                name = place.strip("/").replace("/", "-") or "overview"
                page.screenshot(path=folder / f"{name}-{theme}-{width}.png", full_page=True)
    return places


def test_a_guard_with_an_alert_is_on_the_page(browser: Browser, tmp_path: Path) -> None:
    """The pictures are below `tmp_path`: `--basetemp DIR` keeps them for somebody to look at."""
    config = configured(tmp_path)
    with watching(config), served(config) as address:
        guard = {"PRIVACY_ML_GUARD__URL": address, "PRIVACY_ML_GUARD__KEY": token(config)}
        with _served(tmp_path / "home", workers=0, **guard) as service:
            page = _page(browser, service)
            _first_admin(page, service)
            for theme, language in (("light", "en"), ("dark", "de")):
                page.set_viewport_size({"width": 1280, "height": 900})
                page.goto(service.address + "/parts")
                page.select_option("select[name=theme]", theme)
                page.wait_for_selector(f"html[data-theme={theme}]")
                page.select_option("select[name=locale]", language)
                page.wait_for_selector(f"html[lang={language}]")
                for width in (360, 1280):
                    page.set_viewport_size({"width": width, "height": 900})
                    page.goto(service.address + "/parts")
                    assert "would remove 0 entries" in page.inner_text("section.group .attention")
                    assert page.evaluate("document.documentElement.scrollWidth") <= width
                    picture = tmp_path / f"guard-{theme}-{width}.png"
                    page.screenshot(path=picture, full_page=True)
            page.context.close()
            _require_clean(service)


def test_a_data_set_is_sent_offered_and_deleted(browser: Browser, tmp_path: Path) -> None:
    records = tmp_path / "letters.jsonl"
    records.write_text("".join(json.dumps({"text": f"letter {n}"}) + "\n" for n in range(40)))
    broken = tmp_path / "broken.jsonl"
    broken.write_text("{not json}\n")
    with _served(tmp_path / "home", workers=0) as served:
        page = _page(browser, served)
        _trainer(page, served)
        page.goto(served.address + "/datasets")
        page.set_input_files("#f-file", broken)
        page.click("button:text-is('Send')")
        assert "broken.jsonl" not in page.inner_text("table")
        assert "{not json}" not in page.inner_text("main")
        page.set_input_files("#f-file", records)
        page.click("button:text-is('Send')")
        row = page.locator("tr:has-text('letters.jsonl')")
        row.wait_for()
        page.goto(served.address + "/jobs/new")
        assert "letters.jsonl" in page.content()
        page.goto(served.address + "/datasets")
        row.locator("button").click()
        row.wait_for(state="detached")
        page.context.close()
        _require_clean(served)


@pytest.mark.slow
def test_a_job_is_watched_to_its_end_and_its_certificate_verified(
    browser: Browser, tmp_path: Path
) -> None:
    with _served(tmp_path / "home", workers=1) as served:
        page = _page(browser, served, accept_downloads=True)
        _trainer(page, served)
        page.goto(served.address + "/jobs/new")
        page.fill("#f-epochs", "1")
        page.fill("#f-name", "the first one")
        page.click("button:has-text('Start the job')")
        page.wait_for_selector("[data-live-status]")
        seen: set[str] = set()
        _until(page, lambda: _is_over(page, seen))
        assert len(seen) >= 3, f"epsilon was seen rising live, found {sorted(seen)}"
        assert page.inner_text(".page-head .badge") == "succeeded"
        assert page.locator("#chart-epsilon canvas").count() == 1
        assert page.locator("#chart-epsilon tbody tr").count() >= 16
        with page.expect_download() as download:
            page.click("text=Download the certificate")
        certificate = tmp_path / "certificate.json"
        download.value.save_as(certificate)
        _require_genuine(certificate, served.home)
        page.click("text=Open the report")
        page.wait_for_url("**/report")
        assert "epsilon" in page.inner_text("body").lower()
        color = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert color not in {"rgba(0, 0, 0, 0)", "rgb(255, 255, 255)"}, "the report has its styles"
        page.context.close()
        _require_clean(served)


def _until(page: Page, is_done: Callable[[], bool]) -> None:
    end: datetime = SystemClock().now() + timedelta(milliseconds=_RUN_MS)
    while SystemClock().now() < end:
        if is_done():
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"the job did not end within {_RUN_MS / 1000:.0f} s")


def _is_over(page: Page, seen: set[str]) -> bool:
    figure = page.locator("[data-live-field=epsilon]")
    if figure.count():
        seen.add(figure.inner_text())
    return page.locator("[data-live-status]").count() == 0


def _require_genuine(certificate: Path, home: Path) -> None:
    """The command line recomputes the certificate; the service's own key is known to it."""
    trusted = home / "trusted-keys.json"
    options = ["--trusted-keys", str(trusted)] if trusted.exists() else []
    done = subprocess.run(
        [*_command([]), "certificate", "verify", str(certificate), "--json", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    document = json.loads(done.stdout)
    assert document["genuine"] is True
