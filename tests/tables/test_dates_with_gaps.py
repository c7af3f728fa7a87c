"""A date that is missing is no year 0, in whatever writing the other dates stand."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from normexp.tables import TableEncoder, open_source
from normexp.tables.source import Column, Schema
from normexp.trusted import TableClassifier

DAYS = [datetime.fromisoformat("2019-01-01") + timedelta(days=6 * i) for i in range(240)]


def encoded(values, kind):
    """The encoder of one column of dates, and its training rows."""
    frame = pl.DataFrame({"day": values})
    encoder = TableEncoder(Schema("table", columns=(Column("day", kind),)))
    return encoder, frame, encoder.fit_transform(frame)


@pytest.mark.parametrize("learn", ["at once", "in parts"])
@pytest.mark.parametrize(("kind", "writing"), [("date", None), ("text", "%d.%m.%Y"), ("text", "%m/%d/%Y")])
def test_dates_are_standardised_and_a_gap_stands_in_their_middle(kind, writing, learn):
    encoder, frame, rows = encoded([day.strftime(writing) for day in DAYS] if writing else DAYS, kind)
    if learn == "in parts" and kind == "text":
        encoder.learn_words(frame)
        assert np.array_equal(encoder.transform(frame), rows)
    assert rows.shape[1] >= 7
    assert np.allclose(rows.mean(axis=0), 0.0, atol=1e-5)
    assert np.allclose(rows.std(axis=0), 1.0, rtol=1e-5)
    gap = encoder.transform(pl.DataFrame({"day": [None]}, schema=frame.schema))
    assert np.allclose(gap, 0.0, atol=1e-5)


def test_gaps_among_the_training_rows_are_marked_and_leave_the_others_in_place():
    values = [None if i % 5 == 0 else day for i, day in enumerate(DAYS)]
    encoder, frame, rows = encoded(values, "date")
    gap = np.arange(240) % 5 == 0
    assert np.ptp(rows[gap], axis=0).max() == 0.0  # all gaps alike
    assert not np.isclose(rows[gap][0], rows[~gap]).all(axis=1).any()  # and like no date
    assert rows[~gap][:, :8].std(axis=0).min() > 0.5  # the years too, which a year 0 would press together
    assert np.array_equal(encoder.transform(frame), rows)


@pytest.mark.parametrize("writing", ["%Y-%m-%d", "%d.%m.%Y"])
def test_a_row_without_its_date_is_no_certainty(tmp_path, writing):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 240)
    lines = [f"{y[i] + rng.normal():.3f},{DAYS[i].strftime(writing)},{'ab'[y[i]]}" for i in range(240)]
    (tmp_path / "t.csv").write_text("x,day,kind\n" + "\n".join(lines) + "\n")
    (tmp_path / "new.csv").write_text(f"x,day\n0.5,\n0.5,{DAYS[0].strftime(writing)}\n")
    model = TableClassifier().fit(open_source(tmp_path / "t.csv", target="kind"))
    (block,) = model.predict_batches(open_source(tmp_path / "new.csv"))
    without, with_date = block.probability
    assert 0.5 <= without < 0.9
    assert 0.5 <= with_date < 0.9
