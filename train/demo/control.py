"""What the demo adds to the scores of a control: how probable they are by chance."""

from collections.abc import Sequence
from dataclasses import replace

from scipy import stats

from cavsync.train.reporting.page import Score


def with_p_values(rows: Sequence[Score], num_queries: int) -> list[Score]:
    """The rows of recalls of so many queries, with the p-value of an exact binomial test against their chance level.

    The test takes queries as independent. Those of one model are not, so that the p-values are too small;
    `python -m benchmarks.control` compares the model with other pairings of the same clips, and several seeds.
    """
    return [_with_p_value(row, num_queries) if " R@" in row.name else row for row in rows]


def _with_p_value(row: Score, num_queries: int) -> Score:
    assert row.estimate.chance is not None
    hits = round(row.estimate.value * num_queries / 100)
    found = stats.binomtest(hits, num_queries, row.estimate.chance / 100, "greater")
    return replace(row, note=f"p = {found.pvalue:.2g} of independent queries")
