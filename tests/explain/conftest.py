"""Table models with columns of every kind, fitted once."""

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler

from normexp.tables import Block, open_source
from normexp.trusted import TableClassifier


def mail(n_rows=300, seed=6):
    """Mail with a number, gaps, a flag, a date, a category, a column of many values, and two texts."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(["spam", "ham", "news"], n_rows)
    say = {
        "spam": ["win", "CASH", "now", "prize!"],
        "ham": ["see", "you", "at", "lunch?"],
        "news": ["today", "the", "win", "of"],
    }
    size = np.array([{"spam": 2.0, "ham": 5.0, "news": 20.0}[name] for name in kind]) * rng.lognormal(0, 0.6, n_rows)
    gappy = [None if rng.random() < 0.2 else float(value) for value in size + rng.normal(0, 9, n_rows)]
    return pl.DataFrame(
        {
            "size": size.round(2),
            "links": gappy,
            "known": (kind == "ham") ^ (rng.random(n_rows) < 0.2),
            "sent": np.datetime64("2024-03-01") + rng.integers(0, 300, n_rows),
            "folder": [str(rng.choice(["in", "junk", "lists"] if name != "ham" else ["in"])) for name in kind],
            "sender": [f"{name[: rng.integers(1, 4)]}{rng.integers(60)}@{rng.choice(['a', 'b'])}.org" for name in kind],
            "subject": [" ".join(rng.choice(say[name], rng.integers(0, 4))) for name in kind],
            "body": [" ".join(rng.choice(say[name] + ["and", "so"], 6)) for name in kind],
            "kind": kind,
        }
    )


@pytest.fixture(scope="session")
def mail_csv(tmp_path_factory):
    path = tmp_path_factory.mktemp("mail") / "mail.csv"
    mail().write_csv(path)
    return path


def fit(path, text=None, features=None, estimator=None):
    source = open_source(path, target="kind", text=text, features=features)
    model = TableClassifier(estimator=estimator).fit(source)
    block = source.read(model.schema_, with_target=False)
    return model, Block(block.features[:60], None, 0)


@pytest.fixture(scope="session")
def table_models(mail_csv):
    """(model, block) by what the model reads."""
    plain = ("size", "links", "known", "sent", "folder", "sender")
    return {
        "columns": fit(mail_csv, features=plain),
        "one text": fit(mail_csv, text="body", features=("size", "body")),
        "two texts": fit(mail_csv, text=("subject", "body")),
        "text alone": fit(mail_csv, text="body", features="body"),
        "a pipeline": fit(
            mail_csv, features=plain, estimator=make_pipeline(MaxAbsScaler(), LogisticRegression(max_iter=500))
        ),
    }
