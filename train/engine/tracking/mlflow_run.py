"""MLflow, at the place that MLFLOW_TRACKING_URI names."""

import re
import time
from collections.abc import Mapping

from cavsync.train.engine.tracking.tracker import TrackedRun, by_path, decoded

MAX_PARAMS = 100  # MLflow's own limit of one request
# What a name may not hold there.
FORBIDDEN = re.compile(r"[^\w\-. :/]")


class MlflowRun:
    """A run of an MLflow experiment, through the client, which leaves the process's active run alone."""

    def __init__(self, run: TrackedRun, key: str | None) -> None:
        from mlflow import MlflowClient

        self._client = MlflowClient()
        self.key = key or self._created(run)
        self._client.update_run(self.key, status="RUNNING")
        self._client.log_dict(self.key, dict(run.config), "config.json")

    def numbers(self, group: str, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now_ms = int(1000 * time.time())
        named = {FORBIDDEN.sub("_", name): float(value) for name, value in by_path(group, values).items()}
        metrics = [Metric(name, value, now_ms, step) for name, value in named.items()]
        self._client.log_batch(self.key, metrics=metrics)

    def image(self, name: str, png: bytes, step: int) -> None:
        self._client.log_image(self.key, decoded(png), key=name, step=step)

    def close(self, complete: bool) -> None:
        self._client.set_terminated(self.key, "FINISHED" if complete else "KILLED")

    def _created(self, run: TrackedRun) -> str:
        """The id of a new run, with the configuration as parameters, which cannot change later."""
        from mlflow.entities import Param

        experiment = self._client.get_experiment_by_name(run.project)
        number = experiment.experiment_id if experiment else self._client.create_experiment(run.project)
        created = str(self._client.create_run(number, run_name=run.name).info.run_id)
        params = [Param(name, str(value)) for name, value in run.flat_config().items()]
        for first in range(0, len(params), MAX_PARAMS):
            self._client.log_batch(created, params=params[first : first + MAX_PARAMS])
        return created
