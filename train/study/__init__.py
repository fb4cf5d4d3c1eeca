"""Studies: arms of a training compared over seeds, with metrics that are fixed before the first run."""
