# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures as SVG that stands inside a page: text is text, colours are the page's.

A figure is drawn with colours that stand for others, and in the SVG each becomes
a CSS variable (``var(--fg)``, ``var(--arm-0)``), so one drawing serves light and
dark. It is as wide as a phone; wider screens enlarge it.
"""

from __future__ import annotations

import io
import re
from typing import Any, Callable, Dict
from xml.sax.saxutils import escape

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)

try:
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
except ImportError:  # told when it is needed; ansible-doc works without
    mpl = None  # type: ignore[assignment]

# Told apart by colour and by marker; from the eighth on they repeat.
ARM_COLOURS = 7
# Colours that no drawing uses by itself.
FG, MUTED, GRID, BG = "#01fe01", "#01fe02", "#01fe03", "#01fe04"
_VARIABLES = {FG: "--fg", MUTED: "--muted", GRID: "--grid", BG: "--card"}
_ARMS = ["#01fd{0:02x}".format(number) for number in range(ARM_COLOURS)]
_VARIABLES.update({colour: "--arm-{0}".format(i) for i, colour in enumerate(_ARMS)})

WIDTH_PT = 240
_POINTS_PER_INCH = 72
_STYLE: Dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.labelcolor": FG,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": FG,
    "xtick.color": MUTED,
    "xtick.labelcolor": FG,
    "ytick.color": MUTED,
    "ytick.labelcolor": FG,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
}


def arm_colour(number: int) -> str:
    """Return the colour that stands for an arm's."""
    return _ARMS[number % ARM_COLOURS]


def draw(
    name: str,
    title: str,
    description: str,
    height_pt: float,
    fill: Callable[[Any], None],
) -> str:
    """Return the figure that ``fill`` draws, with a title and text in its place.

    ``name`` is unlike that of any other figure of the page. Raises KeepaliveError
    where matplotlib is missing.
    """
    if mpl is None:
        raise KeepaliveError(
            "matplotlib is missing on the controller; install it beside ansible "
            "(pip install matplotlib)"
        )
    # The salt keeps the ids of two figures apart, and those of one stable.
    style: Any = {**_STYLE, "svg.hashsalt": name}
    with mpl.rc_context(style):
        size = (WIDTH_PT / _POINTS_PER_INCH, height_pt / _POINTS_PER_INCH)
        figure = Figure(figsize=size, layout="constrained")
        canvas: Any = FigureCanvasSVG(figure)
        fill(figure)
        out = io.StringIO()
        canvas.print_svg(out, metadata={"Date": None})
    return _for_page(out.getvalue(), name, title, description)


def _for_page(svg: str, name: str, title: str, description: str) -> str:
    """Return matplotlib's document as an element of a page."""
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # This rule would hold for the whole page, and these ids are not unique there.
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: inherit", svg)
    svg = re.sub(
        r"font: ([0-9.]+px) [^;\"]*", r"font-size: \1; font-family: inherit", svg
    )
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, "var({0})".format(variable))
    body = svg[svg.index(">") + 1 :]
    view_box = re.search(r'viewBox="[^"]*"', svg)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" '
        'xmlns:xlink="http://www.w3.org/1999/xlink" {0} role="img" '
        'aria-labelledby="{1}-title {1}-desc" '
        'style="stroke-linejoin: round; stroke-linecap: butt">'
        '<title id="{1}-title">{2}</title><desc id="{1}-desc">{3}</desc>{4}'
    ).format(
        view_box.group(0) if view_box else "",
        escape(name, {'"': "&quot;"}),
        escape(title),
        escape(description),
        body,
    )
