"""Charts as SVG that a page holds as text: sharp at any size, and in the page's own colours, light or dark."""

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from cavsync.train.reporting.estimate import Estimate

# One unit is a pixel at full width; the viewBox scales all of it.
WIDTH, HEIGHT = 560, 250
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 30, 40
KEY_WIDTH = 130
# Classes of the page's style, which give lines their colours.
LINES = ("line-1", "line-2", "line-3", "line-4")
# Of charts with dots: where their axis begins, right of the figures' names, and how far apart lines are.
DOTS_LEFT, DOT_STEP, LEGEND_STEP = 190, 14, 18


def recall_chart(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], x_label: str, y_label: str) -> str:
    """Lines of shares in % over numbers from 1 on a logarithmic axis; the last line is the chance level, dashed.

    Each curve is its numbers (points,) and its shares (points,).
    """
    most = max(float(x[-1]) for x, _ in curves.values())
    frame = _frame(x_label, y_label)
    ticks = [10**power for power in range(int(np.log10(max(most, 1))) + 1)]
    parts = [_x_tick(_log_x(tick, most), f"{tick:,}") for tick in ticks]
    parts += [_y_tick(percent) for percent in range(0, 101, 25)]
    names = [*curves]
    for number, (name, (x, y)) in enumerate(curves.items()):
        style = "chance" if name == names[-1] else LINES[number % len(LINES)]
        points = " ".join(f"{_log_x(one, most):.1f},{_y(share):.1f}" for one, share in zip(x, y, strict=True))
        parts.append(f'<polyline class="{style}" points="{points}"><title>{escape(name)}</title></polyline>')
        parts.append(_key(number, name, style))
    return f"{frame}{''.join(parts)}</svg>"


def bar_chart(
    labels: Sequence[str], series: Mapping[str, Sequence[float]], x_label: str, y_label: str
) -> str:
    """Groups of bars of counts or shares, one group a label and one bar a series in it."""
    most = max((max(values) for values in series.values()), default=0) or 1
    step = (WIDTH - LEFT - RIGHT) / len(labels)
    width = 0.8 * step / len(series)
    parts = []
    for number, (name, values) in enumerate(series.items()):
        style = LINES[number % len(LINES)]
        for position, value in enumerate(values):
            height = (HEIGHT - TOP - BOTTOM) * value / most
            x = LEFT + position * step + 0.1 * step + number * width
            tip = escape(f"{name}, {labels[position]}: {value:g}")
            parts.append(
                f'<rect class="{style}" x="{x:.1f}" y="{HEIGHT - BOTTOM - height:.1f}" width="{width:.1f}" '
                f'height="{height:.1f}"><title>{tip}</title></rect>'
            )
        parts.append(_key(number, name, style))
    parts += [_x_tick(LEFT + (position + 0.5) * step, label) for position, label in enumerate(labels)]
    parts.append(f'<text class="tick end" x="{LEFT - 6}" y="{TOP + 8}">{most:g}</text>')
    return f"{_frame(x_label, y_label)}{''.join(parts)}</svg>"


def interval_chart(lines: Mapping[str, Sequence[Estimate]], names: Sequence[str]) -> str:
    """Figures in % as dots with their intervals: one line a figure, one dot on it for each of `names`."""
    row = DOT_STEP * len(names) + 10
    bottom = TOP + row * len(lines)
    height = bottom + 40 + LEGEND_STEP * len(names)
    parts = [_grid_line(percent, bottom) for percent in range(0, 101, 25)]
    for position, (figure, estimates) in enumerate(lines.items()):
        middle = TOP + row * (position + 0.5)
        parts.append(_label(figure, DOTS_LEFT - 8, middle + 4, "end"))
        for number, (name, estimate) in enumerate(zip(names, estimates, strict=True)):
            y = middle + DOT_STEP * (number - (len(names) - 1) / 2)
            parts.append(_dot(estimate, y, LINES[number % len(LINES)], f"{name}, {figure}"))
    for number, name in enumerate(names):
        y = bottom + 40 + LEGEND_STEP * number
        parts.append(f'<circle class="{LINES[number % len(LINES)]}" cx="{DOTS_LEFT}" cy="{y - 4}" r="4"/>')
        parts.append(_label(name, DOTS_LEFT + 12, y, "start"))
    title = "scores with their intervals"
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{title}">{"".join(parts)}</svg>'


def _frame(x_label: str, y_label: str) -> str:
    bottom = HEIGHT - BOTTOM
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(f"{y_label} by {x_label}")}">'
        f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{WIDTH - RIGHT}"/>'
        f'<text class="label" x="{(WIDTH + LEFT - RIGHT) / 2}" y="{HEIGHT - 6}">{escape(x_label)}</text>'
        f'<text class="label" transform="translate(11 {(TOP + bottom) / 2}) rotate(-90)">{escape(y_label)}</text>'
    )


def _key(number: int, name: str, style: str) -> str:
    """One entry of the legend, above the frame."""
    x = LEFT + KEY_WIDTH * number
    return (
        f'<path class="key {style}" d="M{x} 10h18"/>'
        f'<text class="tick start" x="{x + 24}" y="14">{escape(name)}</text>'
    )


def _x_tick(x: float, text: str) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 14}">{escape(text)}</text>'


def _y_tick(percent: float) -> str:
    return f'<text class="tick end" x="{LEFT - 6}" y="{_y(percent) + 4:.1f}">{percent:g}</text>'


def _y(percent: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * float(percent) / 100


def _log_x(value: float, most: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * float(np.log(value) / np.log(max(most, 2)))


def _grid_line(percent: float, bottom: float) -> str:
    x = _dot_x(percent)
    line = f'<path class="axis" d="M{x:.1f} {TOP}V{bottom}" opacity=".3"/>'
    return line + f'<text class="tick" x="{x:.1f}" y="{bottom + 14}">{percent:g}</text>'


def _dot(estimate: Estimate, y: float, style: str, name: str) -> str:
    value, low, high = estimate.value, estimate.low, estimate.high
    if math.isnan(value):
        return ""
    span = "" if low is None or high is None else f"M{_dot_x(low):.1f} {y:.1f}H{_dot_x(high):.1f}"
    circle = f'<circle class="{style}" cx="{_dot_x(value):.1f}" cy="{y:.1f}" r="4">'
    return f'<path class="key {style}" d="{span}"/>{circle}<title>{escape(f"{name}: {value:.1f}")}</title></circle>'


def _dot_x(percent: float) -> float:
    return DOTS_LEFT + (WIDTH - RIGHT - DOTS_LEFT) * percent / 100


def _label(text: str, x: float, y: float, side: str) -> str:
    return f'<text class="tick {side}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'
