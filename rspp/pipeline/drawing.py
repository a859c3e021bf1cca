"""Draws a compiled graph for a terminal: boxes along the longest way, arrows to everything beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from rspp.pipeline.graph import GraphDefinition, GraphEdge

_BOLD, _DIM, _YELLOW, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[33m", "\x1b[0m"


class Pen(Struct, frozen=True, kw_only=True):
    """The characters that a terminal can show.

    Attributes:
        corners: top left, top right, bottom left, bottom right.
        across: horizontal line.
        down: vertical line.
        out: where an arrow leaves a box to the right.
        below: where an arrow leaves a box downwards.
        right: head of an arrow to the right.
        arrives: head of an arrow downwards.
        dot: between parts of a label.
    """

    corners: tuple[str, str, str, str]
    across: str
    down: str
    out: str
    below: str
    right: str
    arrives: str
    dot: str


LINES = Pen(
    corners=("┌", "┐", "└", "┘"), across="─", down="│", out="├", below="┬", right="▶", arrives="▼", dot="·"
)
ASCII = Pen(
    corners=("+", "+", "+", "+"), across="-", down="|", out="+", below="+", right=">", arrives="v", dot="-"
)


def draw(graph: GraphDefinition, *, colours: bool, pen: Pen = LINES) -> list[str]:
    """Return the lines of a drawing of ``graph``.

    Args:
        graph: what to draw.
        colours: whether the terminal takes colours.
        pen: the characters to draw with.
    """
    spine = max(graph.legal_paths, key=len)
    beside = [node.id for node in graph.nodes if node.id not in spine]
    painter = _Painter(graph, pen, colours=colours)
    lines: list[str] = []
    for node, following in zip(spine, (*spine[1:], ""), strict=True):
        lines += painter.box(node, following)
    for node in beside:
        lines += ["", *painter.box(node, "")]
    return lines


def describe(edge: GraphEdge, pen: Pen = LINES) -> str:
    """Return what an edge carries and how far it holds, on one line."""
    lane = edge.lane.removesuffix("Lane").lower()
    policy = edge.buffer
    if not edge.buffered:
        return f"{lane} {pen.dot} handed over at once"
    size = policy.max_queue_bytes
    weight = f"{size // 1024} KiB" if size >= 10_240 else f"{size} bytes"
    bounds = f"{policy.max_queue_items} items, {policy.max_queue_ms} ms, {weight}"
    return f"{lane} {pen.dot} {policy.strategy} at {bounds}"


class _Painter:
    def __init__(self, graph: GraphDefinition, pen: Pen, *, colours: bool) -> None:
        self._out = {node.id: [edge for edge in graph.edges if edge.from_ == node.id] for node in graph.nodes}
        self._pen = pen
        self._colours = colours

    def _paint(self, text: str, *styles: str) -> str:
        return "".join(styles) + text + _PLAIN if self._colours and text else text

    def box(self, node: str, following: str) -> list[str]:
        """Return one box with the arrows that leave it; one of them leads down to ``following``."""
        pen = self._pen
        inner = max(len(node) + 2, 5)
        middle = inner // 2
        aside = [edge for edge in self._out[node] if edge.to != following]
        onward = [edge for edge in self._out[node] if edge.to == following]
        top, end, bottom, corner = pen.corners
        lines = [top + pen.across * inner + end]
        reach = max((len(edge.to) for edge in aside), default=0)
        for row in range(max(1, len(aside))):
            name = self._paint(node.center(inner), _BOLD) if row == 0 else " " * inner
            if row >= len(aside):
                lines.append(f"{pen.down}{name}{pen.down}")
                continue
            edge = aside[row]
            arrow = f"{pen.out}{pen.across * 2}{pen.right} {edge.to:<{reach}}"
            lines.append(f"{pen.down}{name}{self._arrow(arrow, edge)}  {self._label(edge)}")
        if not onward:
            return [*lines, bottom + pen.across * inner + corner]
        lines.append(bottom + pen.across * middle + pen.below + pen.across * (inner - middle - 1) + corner)
        shaft = " " * (middle + 1)
        lines.append(f"{shaft}{self._arrow(pen.down, onward[0])} {self._label(onward[0])}")
        lines.append(f"{shaft}{self._arrow(pen.arrives, onward[0])}")
        return lines

    def _arrow(self, text: str, edge: GraphEdge) -> str:
        return self._paint(text, _YELLOW) if edge.lane == "ControlLane" else text

    def _label(self, edge: GraphEdge) -> str:
        return self._paint(describe(edge, self._pen), _DIM)
