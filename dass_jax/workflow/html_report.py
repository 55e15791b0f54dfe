"""A search as one HTML file that needs nothing else: no script, no network."""

import html
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from dass_jax.workflow.search_tables import Table, front_table, search_tables

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1c1c1c; background: #fff;
       max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .4rem; }
p.lead { font-size: 1.1rem; margin-top: 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .25rem .8rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; } th { border-bottom: 2px solid #999; }
.scroll { overflow-x: auto; }
figure { margin: 1rem 0; } figure svg { max-width: 100%; height: auto; }
figcaption { color: #555; font-size: .88rem; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 1rem; }
details { margin-top: 2rem; } pre { overflow-x: auto; background: #f6f6f6; padding: 1rem; }
"""

_CAPTIONS = {
    "candidates": "Every point is a student that the predictor scored without training it. The "
    "interval is that of one student by itself; the best of many predictions is often too high.",
    "student": "The chosen student within its teacher, stage by stage.",
    "distilled": "What the networks reach on the test images after distillation.",
    "curves": "Accuracy on the validation images while the students were distilled.",
    "predicted_measured": "How far predictions can be trusted on this task.",
}


def _svg(figure: Figure, name: str) -> str:
    """A figure as inline SVG, the same bytes for the same figure."""
    file = io.StringIO()
    # shapes would be named at random, and alike in two figures of one page
    with rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()[file.getvalue().index("<svg") :]


def _figure(name: str, figure: Figure) -> str:
    caption = html.escape(_CAPTIONS[name])
    label = html.escape(name.replace("_", " "))
    return (
        f'<figure role="img" aria-label="{label}">{_svg(figure, name)}'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _row(cells: Sequence[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _table(table: Table) -> str:
    body = "".join(_row(cells, "td") for cells in table.rows)
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in table.notes)
    return (
        f'<h2>{html.escape(table.title)}</h2><div class="scroll"><table><thead>'
        f"{_row(table.header, 'th')}</thead><tbody>{body}</tbody></table></div>{notes}"
    )


def html_report(search: dict[str, Any], lead: str, figures: Mapping[str, Figure]) -> str:
    """The page.

    Args:
      search: What ``search.json`` holds.
      lead: What was found, in a sentence or two.
      figures: By the names of the captions.
    """
    drawn = {name: _figure(name, figure) for name, figure in figures.items()}
    rest = "".join(markup for name, markup in drawn.items() if name != "student")
    settings = {
        key: search[key] for key in ("seed", "versions", "device", "recipe") if key in search
    }
    title = html.escape(f"{search['task']}: the student to distil")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1>"
        f'<p class="lead">{html.escape(lead)}</p>{drawn["student"]}'
        + "".join(map(_table, [*search_tables(search), front_table(search)]))
        + f'<h2>Plots</h2><div class="pair">{rest}</div>'
        "<details><summary>Settings</summary><pre>"
        f"{html.escape(json.dumps(settings, indent=2))}</pre></details></body></html>\n"
    )
