"""Classes of clips."""
