"""The command that finds samples: search."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote

import typer

from refinery.cli.output import Line, heading, line, table
from refinery.cli.session import Json, Session, start
from refinery.errors import ConfigError, InputError

if TYPE_CHECKING:
    from refinery.search import SearchResult

app = typer.Typer()
_TITLE = 60
_LIKE = "--like, --like-text, --like-file and --like-vector"


@app.command()
def search(
    ctx: typer.Context,
    where: Annotated[
        str | None, typer.Option("--where", metavar="FILTER", help="SQL WHERE over `refinery fields`.")
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            "--text",
            metavar="WORDS",
            help="Words in captions and other text fields; joins with one of --like….",
        ),
    ] = None,
    like: Annotated[
        str | None, typer.Option("--like", metavar="ID", help="Pictures that look like a sample.")
    ] = None,
    like_text: Annotated[
        str | None,
        typer.Option("--like-text", metavar="WORDS", help="Pictures that show what the words mean."),
    ] = None,
    like_file: Annotated[
        Path | None, typer.Option("--like-file", metavar="FILE", help="Pictures that look like one on disk.")
    ] = None,
    like_vector: Annotated[
        Path | None,
        typer.Option(
            "--like-vector", metavar="FILE", help="Near a vector: a JSON array of numbers, or .npy."
        ),
    ] = None,
    sort: Annotated[
        str | None, typer.Option("--sort", metavar="FIELD[:desc]", help="Order by a field.")
    ] = None,
    random: Annotated[
        int | None, typer.Option("--random", metavar="SEED", help="In random order, the same for a seed.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many hits, or groups.")] = 20,
    cursor: Annotated[
        str | None, typer.Option("--cursor", help="Go on after the page that named this cursor.")
    ] = None,
    ids: Annotated[
        bool, typer.Option("--ids", help="Only the sample ids, to pass on: `flag -` reads them.")
    ] = False,
    count: Annotated[bool, typer.Option("--count", help="Only how many match the filter.")] = False,
    group_by: Annotated[
        str | None, typer.Option("--group-by", metavar="FIELD", help="Count by the values of a field.")
    ] = None,
    space: Annotated[str, typer.Option("--space", help="The embedding space of --like….")] = "default",
    exact: Annotated[
        bool,
        typer.Option("--exact", help="Compare --like… with every vector, not with an approximate graph."),
    ] = False,
    view: Annotated[
        str | None,
        typer.Option(
            "--view",
            metavar="REF",
            help="What a saved view selects, in its order unless another is given; --where narrows it.",
        ),
    ] = None,
    at: Annotated[
        int | None,
        typer.Option("--at", metavar="OFFSET", help="As it was after that ledger offset; `log` lists them."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Find samples by filter, words or likeness. --where combines with every order; --text and one of --like… together are
    a hybrid search, which ranks high what is high in either. --at goes with --where, --view, --sort,
    --random and --count."""
    from refinery.search import SearchRequest, vector_of
    from refinery.search import search as find
    from refinery.vectors import vector_of_words

    session = start(ctx, as_json)
    likes = (like, like_text, like_file, like_vector)
    counting = count or group_by is not None
    _check_orders(sort, random, text, *likes, counting=counting)
    order = as_sort_field(sort)
    if view is not None:
        saved = session.project.views.get(view, at)
        where = saved.selects(session.project.fields, where).text
        if not counting and all(given is None for given in (sort, random, text, *likes)):
            text, order = saved.text, saved.sort
    if at is not None:
        _check_at(text, *likes, group_by)
        _search_at(session, at, where, order, random, limit, cursor, ids, count)
        return
    index = _index(session)
    project = session.project
    if count or group_by is not None:
        _count(session, where, group_by, limit)
        return
    if like is not None:
        sample = project.resolve(like)
        vector = vector_of(index, sample, space)
        where = _but_not(session, where, sample)
    elif like_text is not None:
        vector = vector_of_words(project, like_text, space)
    elif like_file is not None:
        vector = _picture(session, like_file, space)
    elif like_vector is not None:
        vector = _vector_file(like_vector)
    else:
        vector = None
    request = SearchRequest(
        filter=where,
        text=text,
        vector=vector,
        space=space,
        exact=exact,
        sort=order,
        seed=random,
        limit=limit,
        cursor=cursor,
    )
    result = find(index, project.fields, request)
    _show(session, result, ids)


def _show(session: Session, result: SearchResult, ids: bool, **more: Any) -> None:
    document = {
        "hits": [asdict(hit) for hit in result.hits],
        "cursor": result.cursor,
        "filter": result.filter.text if result.filter else None,
        **more,
    }
    session.out.show(document, lambda: [h.sample_id for h in result.hits] if ids else _lines(result))


def _check_orders(sort: Any, random: Any, text: Any, *likes: Any, counting: bool) -> None:
    alike = sum(like is not None for like in likes)
    orders = sum(order is not None for order in (sort, random)) + (text is not None or alike > 0)
    if orders > 1 or alike > 1 or (orders and counting):
        raise InputError(
            f"Choose one order: --sort, --random, --text, one of {_LIKE}, or --text with one of these (hybrid); and none "
            "with --count or --group-by. --where combines with each.",
            kind="bad_query",
        )


def _check_at(*unable: Any) -> None:
    if any(option is not None for option in unable):
        raise InputError(
            "--at goes with the orders --sort and --random (else by sample id), and with --count: the index ranks by --text "
            f"and {_LIKE} and counts for --group-by, and it knows only now. Leave that option out, or --at.",
            kind="bad_query",
        )


def _search_at(
    session: Session,
    offset: int,
    where: str | None,
    sort: str | None,
    random: int | None,
    limit: int,
    cursor: str | None,
    ids: bool,
    count: bool,
) -> None:
    """Search what documents were at an offset. Needs no index."""
    then = session.project.documents_at(offset)
    session.out.note(then.as_of.sentence)
    as_of = then.as_of.to_json()
    if count:
        checked, selected = then.select(where)
        n = selected.num_rows
        document = {"count": n, "filter": checked.text if checked else None, "as_of": as_of}
        session.out.show(document, lambda: [f"{n:,}"])
        return
    result = then.search(where, sort=sort, seed=random, limit=limit, cursor=cursor)
    _show(session, result, ids, as_of=as_of)


def _index(session: Session) -> Any:
    """The index, which must be there; a remark when it is behind."""
    project = session.project
    if not project.has_index:
        raise ConfigError("There is no index yet: `refinery run` makes it.", kind="no_index")
    if not project.projector.is_current():
        session.out.note("The index is behind the store: `refinery run` brings it up to date.")
    return project.index


def _count(session: Session, where: str | None, group_by: str | None, limit: int) -> None:
    from refinery.filter import parse

    project = session.project
    checked = parse(where, project.fields) if where else None
    text = checked.text if checked else None
    if group_by is None:
        n = project.index.count(checked)
        session.out.show({"count": n, "filter": text}, lambda: [f"{n:,}"])
        return
    found = project.index.aggregate(group_by, filter=checked, size=limit)
    document = {"field": group_by, **asdict(found), "filter": text}
    session.out.show(document, lambda: _group_lines(document))


def _but_not(session: Session, where: str | None, sample: str) -> str:
    """`where`, without the sample that the others are compared with."""
    from refinery.filter import conjunction, parse

    fields = session.project.fields
    others = parse(f"sample_id != '{sample}'", fields)
    return conjunction([parse(where, fields) if where else None, others]).text


def _picture(session: Session, path: Path, space: str) -> tuple[float, ...]:
    """The vector of a picture on disk. InputError when there is none."""
    from refinery.vectors import vector_of_picture

    if not path.is_file():
        raise InputError(f"There is no file {path}.", kind="no_such_file")
    return vector_of_picture(session.project, path, space)


def _vector_file(path: Path) -> tuple[float, ...]:
    """The vector in a file; whether it fits the space is the index's to say. InputError when it holds none."""
    from refinery.vectors import vector_in_file

    try:
        return vector_in_file(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error}. Expected a JSON array of numbers, or a .npy file.",
            kind="bad_vector_file",
        ) from None


def as_sort_field(text: str | None) -> str | None:
    """`FIELD[:desc]` as searches and views say it: the field, with a leading - for descending. InputError otherwise."""
    if text is None:
        return None
    field, _, direction = text.partition(":")
    if direction not in ("", "asc", "desc"):
        raise InputError(
            f"--sort {text!r}: write FIELD, FIELD:asc or FIELD:desc.",
            kind="bad_query",
        )
    return f"-{field}" if direction == "desc" else field


def _lines(result: SearchResult) -> Iterator[Line]:
    if not result.hits:
        yield "No sample matches."
        return
    scored = any(hit.score is not None for hit in result.hits)
    yield table(
        [
            "sample",
            *(["score"] if scored else []),
            "verdict",
            "reasons",
            "size",
            "format",
            "caption or place",
        ],
        (
            [
                hit.sample_id[:12],
                *([f"{hit.score:.4f}" if hit.score is not None else ""] if scored else []),
                hit.document["verdict"] or "",
                ", ".join(hit.document["reasons"] or ()),
                f"{hit.document['width']}×{hit.document['height']}" if hit.document["width"] else "",
                hit.document["format"] or "",
                _title(hit.document),
            ]
            for hit in result.hits
        ),
        right=["score", "size"],
    )
    if result.cursor:
        yield f"More: the same command with --cursor {result.cursor}"


def _title(document: dict[str, Any]) -> str:
    """A few words to know a sample by: its caption, else the end of its first place."""
    if caption := document.get("caption"):
        return caption if len(caption) <= _TITLE else f"{caption[: _TITLE - 1]}…"
    place = "/".join(unquote((document["uri"] or [""])[0]).split("/")[-2:])
    return place if len(place) <= _TITLE else f"…{place[1 - _TITLE :]}"


def _group_lines(document: dict[str, Any]) -> Iterator[Line]:
    yield heading(document["field"])
    intervals = any(bucket["end"] is not None for bucket in document["buckets"])
    yield table(
        ["from", "to", "samples"] if intervals else ["value", "samples"],
        (
            [_value(b["value"]), *([_value(b["end"])] if intervals else []), f"{b['count']:,}"]
            for b in document["buckets"]
        ),
        right=["samples"],
    )
    yield line(f"{document['missing']:,} without a value, {document['other']:,} in groups not shown")


def _value(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
