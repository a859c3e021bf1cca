"""Which class of content each node of a pipeline is given, and what providers over the network get of it.

The kernel computes it from what the nodes declare; here is what they declare, and what the pipeline file
says of its callers. Everything that is made of a caller's words is as sensitive as they are: a reply may
repeat them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from rspp import _kernel
from rspp.contracts.envelope import PayloadClass  # noqa: TC001 - msgspec reads these annotations
from rspp.contracts.errors import ConfigurationError
from rspp.pipeline.base import DATA
from rspp.pipeline.normalise import compile_pipeline, degraded_of, provider_bindings
from rspp.pipeline.spec import DataSection, OpenAiEndpoint

if TYPE_CHECKING:
    from rspp.pipeline.graph_section import NodeType
    from rspp.pipeline.spec import PipelineSpec

_SENSITIVE: tuple[PayloadClass, ...] = ("PII", "PHI")
_SOUND: tuple[PayloadClass, ...] = ("audio_raw", *_SENSITIVE)
_TEXT: tuple[PayloadClass, ...] = ("text_raw", *_SENSITIVE)
TAKEN: dict[NodeType, tuple[PayloadClass, ...]] = {
    "room-in": _SOUND,
    "vad": _SOUND,
    "stt": _SOUND,
    "turn": _TEXT,
    "llm": _TEXT,
    "notice": _TEXT,
    "segmenter": _TEXT,
    "tts": _TEXT,
    "playout": _SOUND,
    "room-out": _SOUND,
    "presenter": _TEXT,
}
"""Classes that each node takes in."""
TRANSFORMS: dict[NodeType, tuple[tuple[PayloadClass, PayloadClass], ...]] = {
    "stt": (("audio_raw", "text_raw"),),
    "tts": (("text_raw", "audio_raw"),),
    # A notice is a sentence of the pipeline file, whatever the caller said.
    "notice": (("PII", "text_raw"), ("PHI", "text_raw")),
}
"""Classes that a node makes of others; what it does not name it keeps."""
STRICTEST: tuple[PayloadClass, ...] = (
    "PHI",
    "PII",
    "audio_raw",
    "text_raw",
    "derived_summary",
    "metadata",
)


class Crossing(msgspec.Struct, frozen=True):
    """A decision: content of a class and a provider over the network.

    Attributes:
        node: id of the node.
        provider: the provider, such as ``openai/whisper-1``.
        payload_class: class of what it would be given.
        outcome: ``allow`` or ``reject``.
    """

    node: str
    provider: str
    payload_class: PayloadClass
    outcome: str


class DataFlow(msgspec.Struct, frozen=True):
    """Classes of what is said and heard in a call.

    Attributes:
        caller_sound: the caller's voice.
        caller_text: the caller's words, recognised or written.
        agent_text: the agent's words.
        agent_sound: the agent's voice.
        crossings: what providers over the network get, and what they do not.
    """

    caller_sound: PayloadClass = "audio_raw"
    caller_text: PayloadClass = "text_raw"
    agent_text: PayloadClass = "text_raw"
    agent_sound: PayloadClass = "audio_raw"
    crossings: tuple[Crossing, ...] = ()

    def text(self, party: str) -> PayloadClass:
        """Return the class of the words of ``caller`` or ``agent``."""
        return self.caller_text if party == "caller" else self.agent_text

    def sound(self, party: str) -> PayloadClass:
        """Return the class of the voice of ``caller`` or ``agent``."""
        return self.caller_sound if party == "caller" else self.agent_sound


def data_flow(spec: PipelineSpec) -> DataFlow:
    """Return the classes of what is said and heard in the calls of a pipeline.

    Raises:
        ConfigurationError: the graph cannot be compiled.
    """
    section = DataSection() if spec.data is UNSET else spec.data
    graph = compile_pipeline(spec).known()
    place = {node.id: index for index, node in enumerate(graph.nodes)}
    sound: PayloadClass = "audio_raw" if section.caller == "raw" else section.caller
    text: PayloadClass = "text_raw" if section.caller == "raw" else section.caller
    comes_in = {"room-in": sound, "turn": text}
    abroad = _external_providers(spec)
    found, crossings = _kernel.data_flow(
        [
            (
                node.id,
                node.scope,
                node.cancel,
                list(node.hooks),
                list(TAKEN[node.type]),
                list(TRANSFORMS.get(node.type, ())),
            )
            for node in graph.nodes
        ],
        [(place[edge.from_], place[edge.to]) for edge in graph.edges if edge.lane == DATA],
        sources=[(place[node.id], comes_in[node.type]) for node in graph.nodes if node.type in comes_in],
        external={place[node.id] for node in graph.nodes if node.type in abroad},
        let_out=list(section.external),
    )
    given: dict[str, PayloadClass] = {
        node.type: next(name for name in STRICTEST if name in classes)
        for node, (classes, _) in zip(graph.nodes, found, strict=True)
        if classes
    }
    return DataFlow(
        caller_sound=sound,
        caller_text=text,
        agent_text=given.get("tts", text),
        agent_sound=given.get("playout", sound),
        crossings=tuple(
            Crossing(graph.nodes[index].id, provider, name, "allow" if allowed else "reject")
            for index, name, allowed in crossings
            for provider in abroad[graph.nodes[index].type]
        ),
    )


def check_border(spec: PipelineSpec) -> None:
    """Refuse a pipeline whose providers over the network would be given what they may not have.

    Raises:
        ConfigurationError: it names the provider, the class and the remedy.
    """
    for crossing in data_flow(spec).crossings:
        if crossing.outcome == "reject":
            raise ConfigurationError(f"data.external: {told(crossing)}", hint=REMEDY)


REMEDY = "use an embedded provider, or list the class under data.external if the provider may have it"


def told(crossing: Crossing) -> str:
    """Return what is wrong with a crossing that is refused."""
    return (
        f"{crossing.provider} is reached over the network and may not be given the "
        f"{crossing.payload_class} that goes to {crossing.node}"
    )


def _external_providers(spec: PipelineSpec) -> dict[str, list[str]]:
    bindings = provider_bindings(spec)
    parts: dict[str, object] = {"stt": spec.stt, "llm": spec.llm, "tts": spec.tts}
    for part, others in msgspec.structs.asdict(spec.alternatives).items():
        parts |= {f"{part}.{index}": section for index, section in enumerate(others, 1)}
    degraded = degraded_of(spec)
    if degraded is not None:
        parts["llm.lesser"] = degraded.llm
    found: dict[str, list[str]] = {}
    for key, section in parts.items():
        if isinstance(section, OpenAiEndpoint):
            found.setdefault(key.partition(".")[0], []).append(bindings[key])
    return found
