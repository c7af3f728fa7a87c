"""The examples of docs/out_of_core.md run as they stand."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "out_of_core.md"
pytest.importorskip("pyarrow")
pytest.importorskip("dask")


def test_the_examples_run(capsys):
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    names = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)  # noqa: S102  (our own page)
    assert "The optimum is reached" in capsys.readouterr().out
    assert names["prob"].shape == (178, 3)
    assert names["model"].suboptimality_ <= 1e-6
