"""What the design promises: contrast, no inline code, pinned files, whole translations."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

from privacy_finetuner import dashboard
from privacy_finetuner.dashboard.languages import FOLDER, NAMES

ROOM = Path(dashboard.__file__).parent
STATIC, TEMPLATES = ROOM / "static", ROOM / "templates"
VENDOR = STATIC / "vendor"
_COLOUR = re.compile(r"--([a-z0-9-]+): light-dark\((#[0-9a-f]{6})(?:[0-9a-f]{2})?, (#[0-9a-f]{6})")

TEXT_PAIRS = [
    *((ink, paper) for ink in ("ink", "soft") for paper in ("page", "surface", "sunken")),
    *((ink, paper) for ink in ("accent", "bad") for paper in ("page", "surface")),
    ("accent-strong", "accent-tint"),
    ("accent-strong", "surface"),
    ("on-accent", "accent"),
    ("on-accent", "accent-strong"),
    ("on-bad", "bad"),
    *((tone, f"{tone}-tint") for tone in ("good", "warn", "bad", "info")),
    *(("ink", f"{tone}-tint") for tone in ("good", "warn", "bad", "info")),
]
EDGE_PAIRS = [
    ("edge", "surface"),
    ("edge", "page"),
    ("accent", "surface"),
    *((f"series-{n}", "surface") for n in (1, 2, 3)),
    ("warn", "sunken"),
    ("series-1", "sunken"),
]


def _tokens() -> dict[str, tuple[str, str]]:
    css = (STATIC / "app.css").read_text()
    return {name: (light, dark) for name, light, dark in _COLOUR.findall(css)}


def _luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2, definition)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_of_black_and_white_is_21() -> None:
    assert _contrast("#000000", "#ffffff") == pytest.approx(21)
    assert _contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize(("ink", "paper"), TEXT_PAIRS)
def test_text_has_contrast_of_4_5(ink: str, paper: str) -> None:
    tokens = _tokens()
    for theme in (0, 1):
        assert _contrast(tokens[ink][theme], tokens[paper][theme]) >= 4.5


@pytest.mark.parametrize(("edge", "paper"), EDGE_PAIRS)
def test_edges_and_curves_have_contrast_of_3(edge: str, paper: str) -> None:
    tokens = _tokens()
    for theme in (0, 1):
        assert _contrast(tokens[edge][theme], tokens[paper][theme]) >= 3.0


def test_templates_hold_no_script_and_no_style() -> None:
    """`style=`, `<style>`, `on...=`, script bodies: what the policy refuses."""
    for path in TEMPLATES.glob("*.html"):
        text = path.read_text()
        assert not re.search(r"<style|\sstyle\s*=|\son[a-z]+\s*=|javascript:", text), path.name
        assert "hx-on" not in text, path.name
        for body in re.findall(r"<script[^>]*>(.*?)</script>", text, re.DOTALL):
            assert not body.strip(), path.name


def test_own_scripts_are_small_and_never_evaluate() -> None:
    own = list(STATIC.glob("*.js"))
    assert sum(path.stat().st_size for path in own) < 24_000
    for path in own:
        text = path.read_text()
        assert not re.search(r"\beval\(|new Function|innerHTML|document\.write", text), path.name


def test_vendored_files_are_those_of_the_manifest() -> None:
    manifest = json.loads((VENDOR / "manifest.json").read_text())
    known = {"manifest.json"}
    for package in manifest["packages"]:
        for file in package["files"]:
            digest = hashlib.sha256((VENDOR / file["file"]).read_bytes()).hexdigest()
            assert digest == file["sha256"], file["file"]
            known.add(file["file"])
        assert (VENDOR / package["licence_file"]).stat().st_size > 100
        assert package["licence_file"] in known
    assert {path.name for path in VENDOR.iterdir()} == known


def test_htmx_evaluates_nothing_and_writes_no_style() -> None:
    page = (TEMPLATES / "base.html").read_text()
    config = json.loads(re.search(r"name=\"htmx-config\" content='([^']*)'", page).group(1))
    assert config["allowEval"] is False
    assert config["includeIndicatorStyles"] is False
    assert config["allowScriptTags"] is False
    assert config["selfRequestsOnly"] is True
    assert config["historyCacheSize"] == 0, "pages are not kept in the browser's storage"


def _extracted() -> Catalog:
    catalog = Catalog()
    found = extract_from_dir(
        ROOM,
        method_map=[("templates/**.html", "jinja2"), ("**.py", "python")],
        options_map={
            "templates/**.html": {
                "trim_blocks": "true", "lstrip_blocks": "true", "newstyle_gettext": "true"
            }
        },
        keywords={"_": None, "gettext": None, "ngettext": (1, 2), "marked": None},
    )  # fmt: skip
    for _, _, message, _, _ in found:
        catalog.add(message)
    return catalog


@pytest.mark.parametrize("code", [code for code in NAMES if code != "en"])
def test_every_text_is_translated(code: str) -> None:
    with (FOLDER / code / "LC_MESSAGES" / "dashboard.po").open("rb") as file:
        held = read_po(file, locale=code)
    wanted = {message.id for message in _extracted() if message.id}
    assert len(wanted) > 500
    translated = {message.id for message in held if message.id and message.string}
    assert wanted - translated == set()
    assert translated - wanted == set(), "a translation of a text that is not there any more"
    for message in held:
        assert not message.fuzzy
        assert not list(message.check(held)), f"placeholders differ: {message.id}"
