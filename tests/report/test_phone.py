"""On a phone a table says that it goes on sideways where it does, and nowhere else; measured by Chromium itself."""

import re

import numpy as np
import pytest

from normexp.report import audit, render_audit, render_html, summarise
from report.browser import needs_chromium, told_in_frame
from report.made import facts_of, made

MEASURE = """
const told = [...document.querySelectorAll('.scroll')].map(e => e.getAttribute('aria-label') + '=' +
  (e.scrollWidth > e.clientWidth) + '=' + (getComputedStyle(e, '::before').content !== 'none'));
const broken = [...document.querySelectorAll('.pair tr:first-child td')].filter(e => {
  const range = document.createRange(); range.selectNode(e.firstChild || e);
  return new Set([...range.getClientRects()].map(r => r.top)).size > 1; }).length;
parent.postMessage('found ' + told.join(';') + ' broken ' + broken + ' end', '*');
"""


def measured(page, folder):
    """For each table whether it is wider than its frame and whether it says so; and how many scores are broken."""
    dom = told_in_frame(page, MEASURE, folder, width=360)
    found = re.search(r"found (.*?) broken (\d+) end", dom)
    assert found, dom[-500:]
    tables = dict(re.findall(r"([^=;]+)=(true=true|true=false|false=true|false=false)", found[1]))
    return tables, int(found[2])


def report_page():
    labelled = made(n=150, k=3, names=["kündigt", "bleibt", "prüft"])
    return render_html(summarise(labelled, facts_of(labelled), source="customers.csv"))


def audit_page():
    labelled = made(n=600, k=6, claim=3.0)
    features = np.random.default_rng(0).normal(size=(600, 4)) + labelled.logits[:, :4]
    return render_audit(audit(labelled.logits, labelled.target, features=features, n_resamples=20))


@pytest.mark.browser
@needs_chromium
@pytest.mark.parametrize("make", [report_page, audit_page])
def test_a_table_says_that_it_goes_on_sideways_where_it_does(make, tmp_path):
    tables, broken = measured(make(), tmp_path)
    assert tables["Table of classes"] == "true=true"
    assert tables["Table of scores"] == "false=false"
    wrong = {name: state for name, state in tables.items() if state in {"true=false", "false=true"}}
    assert not wrong
    assert broken == 0  # no % sign on a line of its own
