"""`ranks.parquet`: at which rank each query's right answer landed, by every aggregation, for people and for comparisons."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cavsync.pipeline.storage.path import Draft
from cavsync.train.evaluation.retrieval.retrieval_scores import RetrievalScores

NAME = "ranks.parquet"


def write_ranks(scores: RetrievalScores, out: Path) -> None:
    """One row a clip, sorted: `clip`, and columns such as `diagonal-mean own_clip audio_to_video`; 1 is best."""
    order = np.argsort(scores.embeddings.keys)
    columns = {"clip": pa.array(np.array(scores.embeddings.keys)[order])}
    for aggregation, result in scores.by_aggregation.items():
        for right, ranks in vars(result.ranking).items():
            for direction, one in vars(ranks).items() if ranks else ():
                columns[f"{aggregation} {right} {direction}"] = pa.array((one + 1)[order].astype(np.int32))
    with Draft(out / NAME) as draft:
        pq.write_table(pa.table(columns), draft.file, compression="zstd")
        draft.publish()


def read_ranks(path: Path, aggregation: str) -> tuple[list[str], dict[str, np.ndarray]]:
    """Clips, sorted, and their ranks, 1 is best, under `own_clip audio_to_video` and the like."""
    table = pq.read_table(path)
    prefix = f"{aggregation} "
    columns = [name for name in table.column_names if name.startswith(prefix)]
    return table["clip"].to_pylist(), {name.removeprefix(prefix): table[name].to_numpy() for name in columns}
