# SPDX-License-Identifier: Apache-2.0
"""Answers as figures, Markdown tables and one sentence each; written between a page's markers.

The text around the tables is the page's own; what lies between `<!-- table NAME -->` and
`<!-- end -->` is replaced. Sentences are made from the figures, so that they cannot outlive them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from questions.personal import PAINTED, PERFECT, UNSEEN
from questions.rendered import ERRORS_MM, FOCAL_FACTORS, LEFT_OUT, ROUNDS, SHARES
from questions.rows import Answer, Figure, ratio_of_rows, ratio_with_interval
from questions.searched import ANATOMY, SEARCH_ROWS

__all__ = [
    "TABLES",
    "Column",
    "Row",
    "Table",
    "fill_page",
    "as_plain",
    "from_plain",
    "table_figures",
    "table_markdown",
]

Tables = dict[str, dict[str, dict[str, Figure | None]]]
"""Figures by table, row and column."""
AIM = 0.75
"""Twist error with texture by that without: what the project wants to reach at least."""
LEAST_CHANGE = 0.01
"""Smaller differences are called none, however narrow their interval is."""


@dataclass(frozen=True)
class Column:
    """One figure of every row."""

    title: str
    figure: str
    by_first: bool = False
    """Divided by the same figure of the table's first row, people drawn together."""
    as_share: bool = False
    """Written in per cent."""
    by_row: str = ""
    """Divided by the same figure of this row of the table instead."""


@dataclass(frozen=True)
class Row:
    """One condition."""

    label: str
    question: str
    row: str


@dataclass(frozen=True)
class Table:
    """Rows beside each other; the first is what the others compare with."""

    name: str
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    subject: str = ""
    """What the generated sentences speak of."""


LOOK = (
    Column("end-point error, px", "epe"),
    Column("by the first row's", "epe", by_first=True),
)
POSE = (
    Column("PVE after / before", "pve_mm_ratio"),
    Column("PA-MPJPE", "pa_mpjpe_mm_ratio"),
    Column("2D vertices", "vertex_2d_px_ratio"),
)
WORSE = Column("frames worse by > 5 mm", "worse_share", as_share=True)
UNCHANGED = Row("nothing changed", "baseline", "1 rounds")


def _rows(question: str, names: Sequence[str]) -> tuple[Row, ...]:
    return tuple(Row(name, question, name) for name in names)


TWIST_COLUMNS = (
    Column("turned segments: start, °", "twist_before"),
    Column("after, °", "twist_after"),
    Column("by the first row's", "twist_after", by_first=True),
    Column("other segments, °", "untwisted_after"),
    Column("error on turned skin, px", "turned"),
    Column("of it found by the network", "recovered", as_share=True),
)
TWIST_ROWS = ("without texture", *PAINTED.values(), PERFECT, UNSEEN)
GROUPS = ("thighs", "shins", "upper arms", "forearms", "head")
TEXTURE_FAULTS = (
    "noise 0.1", "noise 0.3", "blur of 2 texels", "blur of 6 texels", "shifted by 4 texels",
    "shifted by 12 texels", "another person's",
)  # fmt: skip
CHANGES = (
    "same light", "half the exposure", "white balance of lamps", "other light", "other clothes",
    "same light, without texture", "other light, without texture",
    "other clothes, without texture",
)  # fmt: skip

TABLES: tuple[Table, ...] = (
    Table("modalities", (UNCHANGED, *_rows("modalities", list(LEFT_OUT))), (*LOOK, *POSE)),
    Table(
        "texture",
        (UNCHANGED, *_rows("texture", TEXTURE_FAULTS),
         Row("left out", "modalities", "without texture")),
        (*LOOK, *POSE),
    ),
    Table("twist", _rows("twist", TWIST_ROWS), TWIST_COLUMNS, "twist"),
    Table(
        "twist_groups",
        _rows("twist", TWIST_ROWS),
        tuple(Column(f"{name}, °", f"twist {name}_after") for name in GROUPS),
    ),
    Table(
        "twist_loose",
        tuple(Row(name, "twist", f"{name}, loosely held") for name in TWIST_ROWS),
        (TWIST_COLUMNS[0], TWIST_COLUMNS[1], TWIST_COLUMNS[2], TWIST_COLUMNS[3], POSE[0]),
        "twist",
    ),
    Table(
        "twist_search",
        _rows("twist_search", SEARCH_ROWS),
        (
            *TWIST_COLUMNS[:3],
            Column("by anatomy's", "twist_after", by_row=ANATOMY),
            TWIST_COLUMNS[3],
            Column("turned ones that are turned back", "turned_back", as_share=True),
            Column("right ones that are turned", "turned_away", as_share=True),
        ),
    ),
    Table(
        "exchanged",
        _rows("exchanged", ("without texture", PAINTED["wrong"], PAINTED["right"])),
        (
            Column("knees and ankles: start, mm", "legs_mm_before"),
            Column("after, mm", "legs_mm_after"),
            Column("by the first row's", "legs_mm_after", by_first=True),
            Column("frames still exchanged", "exchanged_share", as_share=True),
            Column("error on legs, px", "legs"),
            Column("of it found by the network", "recovered", as_share=True),
        ),
    ),
    Table("change", _rows("change", CHANGES), (*LOOK, *POSE)),
    Table(
        "flags",
        tuple(Row(name, "baseline", f"frames {name}") for name in
              ("in full view", "occluded", "crowded", "truncated", "blurred", "shallow")),
        (LOOK[0], *POSE, WORSE),
    ),
    Table(
        "cover",
        (UNCHANGED, *_rows("cover", [f"{share:.0%} covered" for share in SHARES])),
        (*LOOK, Column("seen, px", "epe_visible"), Column("hidden, px", "epe_hidden"), *POSE),
    ),
    Table(
        "start",
        _rows("start", [f"{error} mm" for error in ERRORS_MM]),
        (
            Column("end-point error before, px", "epe_before"),
            Column("after one look, px", "epe"),
            Column("MPJPE before, mm", "mpjpe_mm_before"),
            Column("MPJPE after, mm", "mpjpe_mm_after"),
            Column("PVE before, mm", "pve_mm_before"),
            Column("PVE after, mm", "pve_mm_after"),
            WORSE,
        ),
    ),
    Table(
        "focal",
        (Row("1 ×", "baseline", "2 rounds"),
         *_rows("focal", [f"{factor:g} ×" for factor in FOCAL_FACTORS if factor != 1.0])),
        (Column("end-point error before, px", "epe_before"), *LOOK, *POSE),
    ),
    Table(
        "scale",
        _rows("baseline", ("scale and visibility", "constant scale", "constant visibility",
                           "neither")),
        (POSE[0], Column("by the first row's", "pve_mm_after", by_first=True), *POSE[1:], WORSE),
    ),
    Table(
        "rounds",
        tuple(Row(str(k), "baseline", f"{k} rounds") for k in range(ROUNDS + 1)),
        (Column("error in the picture now, px", "next_epe_before"),
         Column("as the next look sees it, px off", "next_epe"), *POSE, WORSE),
    ),
)  # fmt: skip
"""All tables of docs/questions.md."""


def table_figures(table: Table, answers: dict[str, Answer]) -> dict[str, dict[str, Figure | None]]:
    """Every row's figures by column title; rows that were not asked for are left out.

    Args:
        table: which.
        answers: by question.
    """
    first = table.rows[0]
    reference = answers.get(first.question, {}).get(first.row)
    result: dict[str, dict[str, Figure | None]] = {}
    for row in table.rows:
        people = answers.get(row.question, {}).get(row.row)
        if people is None:
            continue
        cells: dict[str, Figure | None] = {}
        for column in table.columns:
            if column.by_row:
                other = answers.get(row.question, {}).get(column.by_row)
                is_other = other is not None and row.row != column.by_row
                cells[column.title] = (
                    ratio_of_rows(people, other, column.figure) if is_other else None
                )
            elif not column.by_first:
                cells[column.title] = ratio_with_interval(people, column.figure)
            elif row != first and reference is not None:
                cells[column.title] = ratio_of_rows(people, reference, column.figure)
            else:
                cells[column.title] = None
        result[row.label] = cells
    return result


def table_markdown(table: Table, figures: dict[str, dict[str, Figure | None]]) -> str:
    """A Markdown table, and beneath it what it says of the differences that were asked for."""
    titles = [column.title for column in table.columns]
    lines = [f"| | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|"]
    counts = {label: _people(cells) for label, cells in figures.items()}
    for label, cells in figures.items():
        written = [_cell(cells[column.title], column) for column in table.columns]
        few = counts[label] < max(counts.values())
        about = f" ({counts[label]} of the people)" if few else ""
        lines.append(f"| {label}{about} | {' | '.join(written)} |")
    sentences = _sentences(table, figures)
    return "\n".join([*lines, "", *sentences] if sentences else lines)


def _people(cells: dict[str, Figure | None]) -> int:
    return max((one.people for one in cells.values() if one is not None), default=0)


def _cell(figure: Figure | None, column: Column) -> str:
    if figure is None:
        return "–"
    values = (figure.mean, figure.low, figure.high)
    if figure.people < 2:  # one person has no interval
        return f"{values[0]:.0%}" if column.as_share else f"{values[0]:.2f}"
    if column.as_share:
        return "{:.0%} ({:.0%} to {:.0%})".format(*values)
    digits = 2 if max(map(abs, values)) < 10 else 1
    return f"{values[0]:.{digits}f} ({values[1]:.{digits}f}–{values[2]:.{digits}f})"


def _sentences(table: Table, figures: dict[str, dict[str, Figure | None]]) -> list[str]:
    column = next((one for one in table.columns if one.by_first), None)
    if column is None or not figures:
        return []
    worse, better, same = [], [], []
    for label, cells in figures.items():
        figure = cells[column.title]
        if figure is None:
            continue
        change = f"{label} ({100 * (figure.mean - 1):+.0f}%)"
        counts = abs(figure.mean - 1) >= LEAST_CHANGE
        group = same
        if counts and figure.low > 1:
            group = worse
        elif counts and figure.high < 1:
            group = better
        group.append(change)
    said = [
        f"{word}: {', '.join(group)}."
        for word, group in (
            ("Worse than the first row beyond the interval", worse),
            ("Better beyond the interval", better),
            ("No difference that these people could show", same),
        )
        if group
    ]
    if table.subject == "twist":
        said.append(_aim(figures, column.title))
    return [" ".join(said)]


def _aim(figures: dict[str, dict[str, Figure | None]], title: str) -> str:
    """Whether the texture that posefit paints lowers twist error as much as it should."""
    figure = figures.get(PAINTED["refined"], {}).get(title)
    if figure is None:
        return ""
    reached = "reached" if figure.mean <= AIM else "not reached"
    change = 100 * (1 - figure.mean)
    amount = f"{change:.0f}% lower" if change >= 0 else f"{-change:.0f}% higher"
    return (
        f"The aim, twist error at least {1 - AIM:.0%} lower with the texture that posefit paints "
        f"(under refined estimates) than without, is **{reached}**: it is {amount}."
    )


def fill_page(text: str, tables: dict[str, str]) -> str:
    """The page with its generated parts replaced; parts that are not given stay.

    Args:
        text: with `<!-- table NAME -->` … `<!-- end -->`.
        tables: Markdown by name.

    Raises:
        ValueError: a table has no place on the page.
    """
    for name, table in tables.items():
        pattern = re.compile(rf"(<!-- table {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
        text, count = pattern.subn(lambda m, t=table: f"{m[1]}{t}\n{m[2]}", text)
        if count != 1:
            raise ValueError(f"the page has {count} places for table {name}, expected one")
    return text


def as_plain(figures: dict[str, dict[str, Figure | None]]) -> dict[str, Any]:
    """Figures for a JSON file."""
    return {
        label: {
            title: None if one is None else {k: _rounded(v) for k, v in vars(one).items()}
            for title, one in cells.items()
        }
        for label, cells in figures.items()
    }


def from_plain(tables: dict[str, Any]) -> Tables:
    """Figures by table of a JSON file that was written with `as_plain`."""
    return {
        name: {
            label: {title: None if one is None else Figure(**one) for title, one in cells.items()}
            for label, cells in rows.items()
        }
        for name, rows in tables.items()
    }


def _rounded(value: float | int) -> float | int:
    return value if isinstance(value, int) else round(value, 4)
