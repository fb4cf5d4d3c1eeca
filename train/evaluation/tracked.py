"""The figures of a report in the trackers of the run whose weights were scored."""

import json
import logging
from pathlib import Path

from cavsync.model.checkpoints.files.checkpoint_file import read_records
from cavsync.train.engine.run_folder import CONFIG_NAME, WEIGHTS_NAME
from cavsync.train.engine.tracking.tracker import TrackedRun, TrackerError
from cavsync.train.engine.tracking.trackers import Trackers, stored_keys
from cavsync.train.reporting.record import Record

logger = logging.getLogger(__name__)


def track_report(record: Record, name: str) -> None:
    """Logs the figures as "name/figure" to the trackers named in trackers.json beside the scored weights, if any.

    Only the weights of a complete run are tracked, at its last step: a run that still trains has its trackers open. A
    tracker that fails costs a warning, since the report is written.
    """
    weights = Path((record["checkpoint"] or {}).get("path", ""))
    run_dir = weights.parent
    try:
        keys = stored_keys(run_dir) if weights.name == WEIGHTS_NAME else {}
        if not keys:
            return
        config = json.loads((run_dir / CONFIG_NAME).read_text())
        step = (read_records(weights).get("training") or {})["step"]
        run = TrackedRun(
            run_dir=run_dir, project=config["monitor"]["project"], config=config, steps_done=step
        )
        trackers = Trackers(tuple(keys), run)  # type: ignore[arg-type]  # checked when they were stored
    except (TrackerError, OSError, ValueError, KeyError) as error:
        logger.warning("The figures of %s are not tracked: %s", name, error)
        return
    figures = {figure: one["value"] for figure, one in record["figures"].items() if one["value"] is not None}
    trackers.numbers(name, figures, step)
    trackers.close(True, step)
