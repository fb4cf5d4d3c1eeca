"""report.json, report.html and their figures."""
