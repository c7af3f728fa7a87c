"""What a reader is shown: short rows with their numbers, a matrix while it can be read, noise called noise."""

import dataclasses

import pytest

from normexp.report import render_html, summarise
from normexp.report.evidence import lost_in_noise
from normexp.report.picks import cut
from report.made import made


def test_long_rows_are_cut_between_words_and_bear_their_number():
    labelled = made(300, text="quite a long text that goes on " * 6)
    summary = summarise(labelled, source="t", n_resamples=20)
    for pair in summary.confusions:
        assert len(pair.rows) == len(pair.examples)
        for row, text in zip(pair.rows, pair.examples, strict=True):
            assert len(text) <= 91
            assert text.endswith("…")
            assert labelled.examples[row].startswith(text[:-1])
            assert labelled.classes[labelled.target[row]] == pair.true
    page = render_html(summary)
    assert f'<span class="number">row {summary.confusions[0].rows[0]}</span>' in page


@pytest.mark.parametrize(("text", "shown"), [("short", "short"), ("x" * 200, "x" * 90 + "…")])
def test_a_text_without_blanks_is_cut_too(text, shown):
    assert cut(text) == shown


def test_the_matrix_is_left_out_where_nobody_could_read_it():
    few, many = (summarise(made(400, k), source="t", n_resamples=20) for k in (12, 13))
    assert len(few.matrix) == 12
    assert many.matrix == ()
    assert 'class="matrix"' in render_html(few)
    assert 'class="matrix"' not in render_html(many)
    assert len(many.confusions) == 12


def test_a_calibration_error_of_zero_is_called_lost_in_noise():
    seed = next(s for s in range(50) if summarise(made(200, seed=s), source="t", n_resamples=5).score("ece").value == 0)
    summary = summarise(made(200, seed=seed), source="t", n_resamples=50)
    assert lost_in_noise(summary)
    page = render_html(summary)
    assert "not distinguishable from 0 with 200 rows" in page
    verdict = next(v for v in summary.verdicts if v.name == "calibration")
    assert "not distinguishable" in verdict.sentence or "No miscalibration" in verdict.sentence
    seen = summarise(made(2000, claim=3.0), source="t", n_resamples=50)
    assert not lost_in_noise(seen)
    assert "not distinguishable" not in render_html(seen)


def test_resamples_are_a_thousand_where_they_are_cheap():
    assert summarise(made(300), source="t").n_resamples == 1000
    assert summarise(made(25_000, 2), source="t").n_resamples == 200


def test_the_date_is_shown_only_when_it_was_given():
    summary = summarise(made(100), source="t", n_resamples=20)
    assert "Judged when" not in render_html(summary)
    assert "2026-02-03" in render_html(dataclasses.replace(summary, date="2026-02-03"))
