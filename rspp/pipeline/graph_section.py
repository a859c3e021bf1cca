"""The optional ``graph:`` section of a pipeline file: Advanced mode."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import UNSET, Meta, UnsetType, field

from rspp.pipeline.base import Identifier, Milliseconds, Strict
from rspp.pipeline.buffers import BufferOverride

NodeType: TypeAlias = Literal[
    "room-in",
    "vad",
    "stt",
    "turn",
    "llm",
    "notice",
    "segmenter",
    "tts",
    "playout",
    "room-out",
    "presenter",
]
EdgeId: TypeAlias = Annotated[str, Meta(pattern="^[a-z][a-z0-9_>-]{0,126}$")]


class NodeSection(Strict, frozen=True, kw_only=True):
    """A node of a graph that is written out.

    Attributes:
        id: name of the node, unique in the graph.
        type: what it is.
        budget_ms: when the budget of its attempts is exhausted, for nodes that call providers; from the
            profile when left out.
    """

    id: Identifier
    type: NodeType
    budget_ms: Milliseconds | UnsetType = UNSET


class EdgeSection(BufferOverride, frozen=True, kw_only=True):
    """An edge: of the built-in graph, to override it, or of the graph that is written out.

    Attributes:
        from_: id of the node that produces.
        to: id of the node that consumes.
        id: name of the edge; ``FROM->TO`` when left out.
    """

    from_: Identifier = field(name="from")
    to: Identifier
    id: EdgeId | UnsetType = UNSET


class GraphSection(Strict, frozen=True, kw_only=True):
    """Overrides of the built-in graph, or a whole graph.

    Attributes:
        nodes: all nodes of the graph; left out, the graph is the built-in one.
        edges: all edges of a graph that is written out, or overrides of built-in edges.
    """

    nodes: Annotated[tuple[NodeSection, ...], Meta(max_length=64)] = ()
    edges: Annotated[tuple[EdgeSection, ...], Meta(max_length=256)] = ()
