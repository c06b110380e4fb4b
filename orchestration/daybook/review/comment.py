"""Write what a change does as Markdown for a comment on a pull request."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Optional

from daybook.contracts import LAYERS
from daybook.lake.lineage.graph import split_column
from daybook.privacy.secrets import SecretFinder
from daybook.review.affected import Effect
from daybook.review.changes import Changes
from daybook.review.figures import list_figures
from daybook.review.formats import ABSENT
from daybook.review.markdown import Block, code, fence, join_blocks, plain, table
from daybook.review.notebook_diff import CellChange
from daybook.review.revisions import FileChange
from daybook.review.yaml_diff import HIDDEN, KeyChange, KeyPath

if TYPE_CHECKING:
    from daybook.review.preview import Preview

MARK = "<!-- daybook review -->"
"""The first line of a comment, by which a later run finds and replaces it."""
_GRAPH_NODES = 25
"""Maximum number of nodes in a graph; a larger one is left out."""
_CODE_FOLDERS = ("orchestration", "infra", "examples")


def render_comment(changes: Changes, preview: Optional[Preview] = None) -> str:
    """Return the comment, which has at most the characters that GitHub accepts.

    Parameters
    ----------
    changes
        The differences of the project's files.
    preview
        The differences of the figures, for the same change.
    """
    secrets = SecretFinder(os.environ)
    blocks = [
        Block(f"{MARK}\n## What this change does\n\n{_summarize(changes)}"),
        *(Block(f"**Note:** {plain(each)}") for each in changes.unreadable.values()),
        *list_figures(preview),
        *_notebook_blocks(changes, secrets),
        *_params_blocks(changes.params, secrets),
        *_effect_blocks(changes.effect),
        *_file_blocks(changes.files),
    ]
    return join_blocks(blocks)


def _summarize(changes: Changes) -> str:
    revisions = changes.revisions
    before = _describe_commit(revisions.before_name, revisions.before)
    after = _describe_commit(revisions.after_name, revisions.after) if revisions.after else f"the {revisions.after_name}"
    counted = [
        (sum(map(len, changes.notebooks.values())), "changed cell"),
        (len(changes.params), "changed contract or params file"),
        (len(changes.files), "other changed file"),
    ]
    listed = ", ".join(_count(number, unit) for number, unit in counted if number) or "no difference"
    affected = _list_names(dict.fromkeys(each.table for each in changes.effect.affected))
    effect = (
        f"Affected tables: {affected}" if affected else "By the SQL of the notebooks, no column of silver or gold is affected"
    )
    return f"From {before} to {after}: {listed}. {effect}."


def _describe_commit(name: str, commit: str) -> str:
    """Return a revision as the user named it, with the short id of its commit."""
    short = commit[:7]
    return code(short) if commit.startswith(name) else f"{code(name)} ({short})"


def _notebook_blocks(changes: Changes, secrets: SecretFinder) -> Iterator[Block]:
    if changes.notebooks:
        yield Block("### Notebooks\n\nSources of cells only.")
    for path, cells in changes.notebooks.items():
        yield Block(f"#### {code(path)}")
        for each in cells:
            title = _describe_cell(each, secrets)
            if (path, each.defines) in changes.effect.same_queries:
                title += ", with the same query"
            lines = _redact("\n".join(each.lines()), secrets).splitlines()
            yield fence(title, "diff", lines) if lines else Block(title)


def _describe_cell(cell: CellChange, secrets: SecretFinder) -> str:
    under = f"**{plain(_redact(cell.heading, secrets))}** · " if cell.heading else ""
    how = "moved" if cell.moved else "added" if cell.before is None else "removed" if cell.after is None else "changed"
    return f"{under}{code(cell.defines) or f'{cell.kind} cell'} {how}"


def _params_blocks(params: dict[str, list[KeyChange]], secrets: SecretFinder) -> Iterator[Block]:
    if params:
        yield Block("### Contracts and params")
    for path, changes in params.items():
        if not changes[0].path:
            lines = _redact("\n".join(changes[0].lines()), secrets).splitlines()
            yield fence(f"#### {code(path)} {changes[0].kind}\n", "diff", lines)
            continue
        rows = [
            (
                _describe_key(path, each.path),
                code(_redact(each.before_text, secrets)) or ABSENT,
                code(_redact(each.after_text, secrets)) or ABSENT,
            )
            for each in changes
        ]
        yield table(["key", "before", "after"], rows, head=f"#### {code(path)}")


def _describe_key(file: str, path: KeyPath) -> str:
    """Return a key in words: the column or rule of a contract, then the keys within it."""
    parts, words = list(path), []
    if "/contracts/" in file and parts[:1] == ["schema"]:
        # A contract of silver or gold has one table, which has the name of the file.
        entity = parts[1:2] if "/landing/" in file else []
        words += [f"entity {code(str(each))}" for each in entity]
        parts = parts[2:]
        for key, word in (("properties", "column"), ("quality", "rule")):
            if parts[:1] == [key] and len(parts) > 1:
                # A rule without a name is known by its number.
                words.append(f"{word} {parts[1] + 1}" if isinstance(parts[1], int) else f"{word} {code(parts[1])}")
                parts = parts[2:]
    keys = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")
    return " · ".join([*words, *([code(keys)] if keys else [])])


def _effect_blocks(effect: Effect) -> Iterator[Block]:
    if not effect.affected and not effect.unread:
        return
    yield Block(
        "### Affected columns\n\nColumns of silver and gold that read a change, directly or through other cells and tables. "
        "What decides a column chooses its rows or values and is no part of them. Python cells and package code are not traced."
    )
    rows = [
        (
            code(each.table),
            _list_names(each.columns) or "all columns",
            _list_names(each.values_from) or ABSENT,
            _list_names(each.decided_by) or ABSENT,
        )
        for each in sorted(effect.affected, key=lambda each: LAYERS[::-1].index(each.table.split(".")[0]))
    ]
    if rows:
        yield table(["table", "columns", "values from", "decided by"], rows)
    if effect.unread:
        yield Block("\n".join(f"**Note:** {plain(each)}" for each in effect.unread))
    graph = list(_graph_lines(effect))
    if graph:
        yield fence("", "mermaid", graph)


def _graph_lines(effect: Effect) -> Iterator[str]:
    """Yield a graph of the cells and tables from the changes to the affected tables; nothing if it is large."""
    names = sorted(effect.reads.keys() | {name for read in effect.reads.values() for name in read})
    if not names or len(names) > _GRAPH_NODES:
        return
    nodes = {name: f"n{number}" for number, name in enumerate(names)}
    causes = {cause for each in effect.affected for cause in each.causes}
    changed = {
        name for name in nodes if name in causes or any(split_column(cause)[0] == name for cause in causes - nodes.keys())
    }
    yield "flowchart LR"
    for name, node in nodes.items():
        label = name.replace('"', "#quot;")
        yield f'  {node}["{label}"]{":::changed" if name in changed else ""}'
    for name, sources in effect.reads.items():
        yield from (f"  {nodes[source]} --> {nodes[name]}" for source in sorted(sources))
    yield "  classDef changed fill:#fff3c4,stroke:#9a6700,color:#1f2328"


def _file_blocks(files: Sequence[FileChange]) -> Iterator[Block]:
    if not files:
        return
    first = [each for each in files if each.path.split("/")[0] in _CODE_FOLDERS]
    ordered = [*first, *(each for each in files if each not in first)]
    rows = [(code(each.path), _signed(each.added, "+"), _signed(each.removed, "−")) for each in ordered]
    block = table(["file", "lines added", "removed"], rows, right=["lines added", "removed"])
    yield Block(
        f"### Other files\n\n<details><summary>{_count(len(files), 'file')}</summary>\n\n{block.head}",
        block.lines,
        "\n</details>",
    )


def _list_names(names: Iterable[str]) -> str:
    return ", ".join(map(code, names))


def _signed(number: Optional[int], sign: str) -> str:
    return "not text" if number is None else f"{sign}{number:,}" if number else "0"


def _count(number: int, unit: str) -> str:
    return f"{number:,} {unit}{'' if number == 1 else 's'}"


def _redact(text: str, secrets: SecretFinder) -> str:
    """Return a text with secrets replaced."""
    kept, position = [], 0
    for start, end, _ in sorted(secrets.find(text)):
        if end > position:
            kept += [text[position:start], HIDDEN]
            position = end
    return "".join([*kept, text[position:]])
