"""Command on the effect of a change: review."""

# No `from __future__ import annotations`: on Python 3.9 Typer does not resolve Annotated in string annotations.

from pathlib import Path
from typing import Annotated, Optional

import typer

from daybook.cli.app import app
from daybook.errors import UsageError
from daybook.settings import project_root


@app.command()
def review(
    revisions: Annotated[
        str,
        typer.Argument(
            metavar="BASE..HEAD", help="Two revisions, as git diff takes them; BASE alone is compared with the working tree."
        ),
    ],
    preview: Annotated[
        Optional[Path], typer.Option("--preview", help="A file that `daybook preview --json` wrote.", metavar="FILE")
    ] = None,
    output: Annotated[
        Optional[Path], typer.Option("--output", help="Write the comment to a file instead of printing it.", metavar="FILE")
    ] = None,
) -> None:
    """Describe a change in one Markdown comment for a pull request.

    The comment has the changed cells, contracts and params, the columns of silver and gold that they affect, and the figures of
    a preview.
    """
    try:
        import nbdime  # noqa: F401
    except ImportError:
        raise UsageError("nbdime is not installed; run `make setup`, or install daybook[dev].") from None

    from daybook.review.changes import collect_changes
    from daybook.review.comment import render_comment
    from daybook.review.figures import read_preview
    from daybook.review.revisions import parse_revisions

    changes = collect_changes(parse_revisions(revisions, project_root()))
    comment = render_comment(changes, read_preview(preview) if preview else None)
    if output is None:
        print(comment, end="")
        return
    try:
        output.write_text(comment, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{output} cannot be written ({error.strerror}); name a file in a folder that exists.") from None
