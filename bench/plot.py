"""Plot of a result: the ratio of each pair, their median, and the target."""

from __future__ import annotations

from html import escape

from bench.pairs import Point, Result

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _LINE, _ROW = 720, 150, 24, 24, 96, 22
_GOOD, _BAD, _PALE, _INK = "#1a7f5a", "#c2410c", "#9ca3af", "#1f2937"


def drawn(result: Result) -> str:
    """Return the plot as an SVG document."""
    ratios = [pair.ratio for pair in result.pairs]
    most = max([*ratios, *(point.ratio for point in result.points), result.target, 1.0]) * 1.12

    def x(ratio: float) -> float:
        return _LEFT + ratio / most * (_WIDTH - _LEFT - _RIGHT)

    kept = result.kept
    colour = _GOOD if result.reached else _BAD
    dots = [
        f'<circle cx="{x(pair.ratio):.1f}" cy="{_LINE}" r="6" fill="{colour if pair in kept else "none"}" '
        f'fill-opacity="0.55" stroke="{colour if pair in kept else _PALE}"/>'
        for pair in result.pairs
    ]
    height = _HEIGHT + _ROW * len(result.points)
    box = f"0 0 {_WIDTH} {height}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" font-family="system-ui, sans-serif">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(_LEFT, 26, result.title, size=16, weight=600),
        _text(_LEFT, 46, f"{result.unit}, as a ratio to: {result.reference}", size=12, fill="#6b7280"),
        f'<line x1="{_LEFT}" y1="{_LINE}" x2="{_WIDTH - _RIGHT}" y2="{_LINE}" stroke="#e5e7eb" stroke-width="2"/>',
        *_scale(most, x(0), x(most)),
        *_mark(x(1.0), "reference", _PALE, dashed=True),
        *_mark(x(result.target), f"{result.wanted} {result.target:g}", _INK),
        *dots,
        f'<path d="M{x(result.ratio):.1f} {_LINE - 11} l6 -9 h-12 z" fill="{colour}"/>',
        _text(x(result.ratio), _LINE - 24, f"{result.ratio:.2f}", size=14, weight=700, fill=colour, anchor="middle"),
        *(
            line
            for n, point in enumerate(result.points)
            for line in _point(point, _HEIGHT + 4 + _ROW * n, x(point.ratio))
        ),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _point(point: Point, y: float, x: float) -> list[str]:
    return [
        f'<line x1="{_LEFT}" y1="{y}" x2="{x:.1f}" y2="{y}" stroke="#d1d5db" stroke-width="12"/>',
        _text(_LEFT + 4, y + 4, f"{point.ratio:.2f}  {point.at}", size=11),
    ]


def _scale(most: float, left: float, right: float) -> list[str]:
    step = next(step for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if most / step <= 10)
    at = [n * step for n in range(int(most / step) + 1)]
    return [
        _text(left + ratio / most * (right - left), _LINE + 44, f"{ratio:g}", size=10, fill="#9ca3af", anchor="middle")
        for ratio in at
    ]


def _mark(x: float, label: str, colour: str, *, dashed: bool = False) -> list[str]:
    path = f'd="M{x:.1f} {_LINE - 14} v28" stroke="{colour}" stroke-width="2"'
    line = f"<path {path} stroke-dasharray='3 3'/>" if dashed else f"<path {path}/>"
    return [line, _text(x, _LINE + 28, label, size=10, fill=colour, anchor="middle")]


def _text(
    x: float, y: float, text: str, *, size: int, weight: int = 400, fill: str = _INK, anchor: str = "start"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y}" font-size="{size}" font-weight="{weight}" fill="{fill}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )
