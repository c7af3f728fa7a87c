"""The page: complete, self-contained, safe, small, the same every time, and no wider than a phone."""

import re
import threading
from html.parser import HTMLParser

import matplotlib as mpl
import numpy as np
import pytest

from normexp.report import render_html, summarise
from normexp.report.labelled import Labelled
from normexp.report.page import breakable, count, number, percent
from report.browser import needs_chromium, told_in_frame
from report.made import facts_of, made

SECTIONS = {"verdicts", "scores", "calibration", "selective", "examples", "confusions", "classes", "provenance"}
TWO_MB = 2 * 1024 * 1024
VOID = {"meta", "wbr", "br", "link", "img", "hr", "input"}


class Reader(HTMLParser):
    """Collects elements and checks that every one is closed."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.ids, self.links, self.text = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        attributes = dict(attrs)
        if "id" in attributes:
            self.ids.append(attributes["id"])
        self.links += [v for k, v in attrs if k in {"src", "href", "xlink:href", "action", "srcset", "poster"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.text.append(text)


def read(page):
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert not reader.open
    return reader


def page_of(labelled, **options):
    return render_html(summarise(labelled, facts_of(labelled), source="table.csv", **options))


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style><style>*{display:none}",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)//'",
)


@pytest.fixture(scope="module")
def page():
    return page_of(made(n=400, claim=1.5))


def test_the_page_parses_and_has_every_section(page):
    reader = read(page)
    assert set(reader.ids) >= SECTIONS
    assert reader.tags.count("h1") == 1
    assert reader.tags.count("svg") == 2
    assert page.startswith("<!doctype html>")


def test_identifiers_are_unique_and_references_find_them(page):
    reader = read(page)
    assert len(reader.ids) == len(set(reader.ids))
    referred = set(re.findall(r"url\(#([^)]+)\)", page)) | {link[1:] for link in reader.links}
    assert referred <= set(reader.ids)


def test_nothing_is_loaded_from_anywhere(page):
    assert all(link.startswith("#") for link in read(page).links)
    assert "http://" not in page
    assert "https://" not in page
    assert "@import" not in page
    assert "<script" not in page
    assert "<link" not in page


def test_numbers_of_the_summary_stand_on_the_page(page):
    labelled = made(n=400, claim=1.5)
    summary = summarise(labelled, facts_of(labelled), source="table.csv")
    text = "".join(read(page).text)
    assert percent(summary.score("accuracy").value) in text
    assert number(summary.score("log_loss").value) in text
    for verdict in summary.verdicts:
        assert verdict.sentence in text
        assert verdict.advice in text
    for name in labelled.classes:
        assert name in text


def test_hostile_names_and_rows_are_escaped():
    labelled = made(n=200, k=5, names=HOSTILE, text="<b onclick=x>&lt;")
    training = facts_of(labelled, estimator="<i>E</i>", source="<u>.csv", columns=HOSTILE, outcome="<s>Done.</s>")
    page = render_html(summarise(labelled, training, source="<script>alert(2)</script>"))
    reader = read(page)
    assert not {"script", "img", "b onclick", "i", "u", "s"} & {
        t for t in reader.tags if t not in {"i", "b"}
    }  # our bars are <i> and <b>
    assert reader.tags.count("style") == 1
    text = "".join(reader.text)
    for name in (*HOSTILE, "<script>alert(2)</script>", "<i>E</i>", "<b onclick=x>&lt;"):
        assert name in text  # shown as written, down to the braces
    assert "onerror" not in re.sub(r"&#?\w+;", "", "".join(re.findall(r"<[^>]*>", page)))


def test_names_in_any_script_reach_the_page_as_they_are():
    names = ["苹果", "תפוח", "🍎" * 30, "a" * 300]
    text = "".join(read(page_of(made(k=4, names=names))).text)
    assert all(name in text for name in names)


def test_the_same_facts_give_the_same_bytes():
    labelled = made(n=150)
    assert page_of(labelled, seed=1) == page_of(labelled, seed=1)


def test_pages_can_be_made_in_several_threads_at_once():
    labelled = made(n=150)
    expected, pages = page_of(labelled), []
    threads = [threading.Thread(target=lambda: pages.append(page_of(labelled))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pages == [expected] * 4


def test_drawing_leaves_matplotlib_as_it_was():
    before = dict(mpl.rcParams)
    page_of(made(n=50))
    assert dict(mpl.rcParams) == before


def test_a_page_of_many_classes_stays_small_and_says_what_it_leaves_out():
    page = page_of(made(n=4000, k=500, text="x" * 190))
    assert len(page.encode()) < TWO_MB / 8
    assert "470 of 500 classes are left out" in page


@pytest.mark.parametrize("n", [1, 2, 25])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_smallest_tables_have_a_page_too(n, k):
    assert set(read(page_of(made(n=n, k=k))).ids) >= SECTIONS - {"selective"}


def test_infinite_logits_and_losses_are_written_as_such():
    logits = np.array([[0.0, -np.inf], [1.0, 0.0]] * 15)
    labelled = Labelled(logits, np.array([1, 0] * 15), ("a", "b"), np.array([0.5, 0.5]), ("",) * 30)
    page = page_of(labelled)
    assert "∞" in page
    assert not re.search(r"\b(nan|inf)\b", "".join(read(page).text), re.IGNORECASE)


def test_without_training_facts_the_page_stands():
    page = render_html(summarise(made(), source="x"))
    assert "Judged on" in page
    assert "Fitted on" not in page


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.971, "97.1\u202f%"),
        (1.0, "100.0\u202f%"),
        (0.99999, ">\u202f99.9\u202f%"),
        (0.00001, "<\u202f0.1\u202f%"),
        (0.0, "0.0\u202f%"),
        (-0.031, "\u22123.1\u202f%"),
        (float("nan"), "\u2013"),
    ],
)
def test_a_share_is_never_rounded_to_all_or_nothing(share, text):
    assert percent(share) == text


def test_numbers_are_written_for_people():
    assert number(-1.5, 1) == "\u22121.5"
    assert number(float("inf")) == "\u221e"
    assert count(1234567) == "1,234,567"
    assert breakable("a_<b>") == "a_<wbr>&lt;b&gt;"


def width_in_browser(page, folder, *, width):
    """Width that the page asks for in a frame of the given width, and that width as the page sees it."""
    script = "parent.postMessage('measured ' + document.documentElement.scrollWidth + ' of ' + innerWidth, '*')"
    dom = told_in_frame(page, script, folder, width=width)
    found = re.search(r"measured (\d+) of (\d+)", dom)
    assert found, dom[-500:]
    return int(found[1]), int(found[2])


@pytest.mark.browser
@needs_chromium
def test_the_page_is_no_wider_than_a_phone(tmp_path):
    names = ["a_very_long_class_name_with_many_words_in_it", "w" * 120, *(f"class {i}" for i in range(148))]
    page = page_of(made(n=2000, k=150, names=names, text="word" * 40))
    asked, given = width_in_browser(page, tmp_path, width=360)
    assert given == 360
    assert asked <= given


@pytest.mark.browser
@needs_chromium
def test_the_measurement_notices_a_page_that_is_too_wide(tmp_path):
    wide = page_of(made(n=50)).replace("<main>", "<main><div style='width:500px'>wide</div>")
    asked, given = width_in_browser(wide, tmp_path, width=360)
    assert asked >= 500 > given
