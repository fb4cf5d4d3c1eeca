"""The search for clips that are the same recording: how long it takes, and what it finds of copies.

python -m benchmarks.duplicates rate [--largest N]
python -m benchmarks.duplicates reuploads VIDEOS [--folder DIR]
"""

import typer

from benchmarks.duplicates import rate, reuploads

app = typer.Typer()
app.command("rate")(rate.main)
app.command("reuploads")(reuploads.main)

if __name__ == "__main__":
    app()
