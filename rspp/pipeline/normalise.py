"""Turns a pipeline into what the kernel is told: its thresholds and the plan that turns share.

Everything here is a pure function of the pipeline file, so that two runtimes with the same file make
plans with the same hash. Fractions become integers per thousand, because the plan hash covers integers
only.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from rspp._kernel import MERGE_RULE_ID, MERGE_RULE_VERSION, ORDERING_MARKERS
from rspp.contracts.errors import ConfigurationError
from rspp.pipeline.base import ADAPTIVE_ACTIONS
from rspp.pipeline.compiler import Compilation, compile_graph
from rspp.pipeline.profile import SIMPLE, SIMPLE_NAME, ExecutionProfile, RecordingLevel
from rspp.pipeline.spec import (
    BudgetSection,
    DegradedSection,
    EspeakTts,
    FixedLlm,
    OpenAiEndpoint,
    OpenAiLlm,
    OpenAiStt,
    OpenAiTts,
    PipelineSpec,
    RulesLlm,
)

if TYPE_CHECKING:
    from rspp.pipeline.graph_section import NodeType

Settings = dict[str, int | str | bool]


def permille(value: float) -> int:
    """Return a fraction from 0 to 1 as an integer from 0 to 1000."""
    return round(value * 1000)


class Waits(msgspec.Struct, frozen=True):
    """The budgets of a turn in milliseconds, as ``BudgetSection`` once nothing is left out."""

    first_output_ms: int
    stall_ms: int


def profile_of(spec: PipelineSpec) -> ExecutionProfile:
    """Return the execution profile that ``spec`` runs under.

    Raises:
        ConfigurationError: no profile has that name.
    """
    if spec.profile == SIMPLE_NAME:
        return SIMPLE
    if spec.profile not in spec.profiles:
        known = ", ".join((SIMPLE_NAME, *spec.profiles))
        raise ConfigurationError(
            f'profile: unknown execution profile ("{spec.profile}")',
            hint=f"known here: {known}; or write {spec.profile}.profile.yaml beside the pipeline file",
        )
    return spec.profiles[spec.profile]


def budgets(spec: PipelineSpec) -> Waits:
    """Return the budgets of a turn: what the file says, else what the profile says."""
    own, defaults = spec.budget, profile_of(spec).budgets
    return Waits(
        defaults.turn_ms if own.first_output_ms is UNSET else own.first_output_ms,
        defaults.path_ms if own.stall_ms is UNSET else own.stall_ms,
    )


def adaptive_actions(spec: PipelineSpec) -> list[str]:
    """Return what may be tried within a turn, in the order of the contract; an empty list is nothing.

    A file that leaves the key out takes the profile's actions; one that gives an empty list allows none.
    """
    chosen = profile_of(spec).adaptive_actions if spec.adaptive_actions is UNSET else spec.adaptive_actions
    return [action for action in ADAPTIVE_ACTIONS if action in chosen]


def recording_level(spec: PipelineSpec) -> RecordingLevel:
    """Return the level at which calls are recorded: what the file says, else what the profile says."""
    own = spec.recording.level
    return profile_of(spec).recording.level if own is UNSET else own


def with_defaults(spec: PipelineSpec) -> PipelineSpec:
    """Return ``spec`` with everything that it takes from its profile written out; its meaning is the same."""
    waits = budgets(spec)
    return msgspec.structs.replace(
        spec,
        budget=BudgetSection(first_output_ms=waits.first_output_ms, stall_ms=waits.stall_ms),
        adaptive_actions=tuple(adaptive_actions(spec)),
        recording=msgspec.structs.replace(spec.recording, level=recording_level(spec)),
    )


def compile_pipeline(spec: PipelineSpec) -> Compilation:
    """Compile the graph of ``spec``: the one that its sessions run."""
    return compile_graph(
        spec.name,
        None if spec.graph is UNSET else spec.graph,
        profile_of(spec),
        block_ms=budgets(spec).stall_ms,
        notices=bool(spec.failure_notice),
        settings=_node_settings(spec),
    )


def _node_settings(spec: PipelineSpec) -> dict[NodeType, Settings]:
    """Return what each node runs with, so that the graph's name covers the thresholds of its turns."""
    bindings = provider_bindings(spec)
    return {
        "vad": {"provider": bindings["vad"]},
        "stt": {"provider": bindings["stt"]},
        "turn": turn_policy(spec),
        "llm": {"provider": bindings["llm"]},
        "tts": {"provider": bindings["tts"]},
    }


def turn_policy(spec: PipelineSpec) -> dict[str, Any]:
    """Return the keyword arguments of ``rspp._kernel.TurnPolicy`` for ``spec``."""
    cut, turn, waits = spec.interruption, spec.turn, budgets(spec)
    return {
        "speech_permille": permille(spec.vad.speech),
        "silence_permille": permille(spec.vad.silence),
        "interruptions": cut.enabled,
        "confirm_ms": cut.confirm_ms,
        "confirm_words": cut.confirm_words,
        "release_ms": cut.release_ms,
        "short_burst_ms": cut.short_burst_ms,
        "short_release_ms": cut.short_release_ms,
        "probe_ms": turn.probe_ms,
        "complete_wait_ms": turn.complete_wait_ms,
        "incomplete_wait_ms": turn.incomplete_wait_ms,
        "max_utterance_ms": turn.max_utterance_ms,
        "overlap": turn.overlap,
        "late_event": turn.late_event,
        "late_grace_ms": turn.late_grace_ms,
        "first_output_budget_ms": waits.first_output_ms,
        "stall_budget_ms": waits.stall_ms,
        "failure_notice": bool(spec.failure_notice),
        "greeting": bool(spec.greeting),
        "takeover_notice": bool(spec.takeover_notice),
    }


def plan_template(spec: PipelineSpec) -> dict[str, str]:
    """Return the keyword arguments of ``rspp._kernel.PlanTemplate`` for ``spec``."""
    return {
        "pipeline_version": pipeline_version(spec),
        "graph_definition_ref": compile_pipeline(spec).known().ref(),
        "execution_profile": profile_of(spec).name,
        "policy_json": canonical_json(plan_policy(spec)),
    }


def pipeline_version(spec: PipelineSpec) -> str:
    """Return the version that every event carries: ``name@version``."""
    return f"{spec.name}@{spec.version}"


def spec_digest(spec: PipelineSpec) -> str:
    """Return SHA-256 in hex over the whole pipeline, defaults included."""
    return hashlib.sha256(msgspec.json.encode(with_defaults(spec), order="sorted")).hexdigest()


def canonical_json(document: dict[str, Any]) -> str:
    """Return ``document`` with sorted keys, without blanks.

    Raises:
        TypeError: a fraction, which has no single spelling to be hashed.
    """
    _refuse_fractions(document)
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def plan_policy(spec: PipelineSpec) -> dict[str, Any]:
    """Return the sections of a turn plan that do not depend on the turn (contract section 5.1).

    The thresholds of turns are settings of the graph's nodes; ``graph_definition_ref`` covers them. What only
    a control plane can know is ``unmanaged``; with one, its snapshot takes the place of all six references.
    """
    profile, waits = profile_of(spec), budgets(spec)
    recording = profile.recording
    policy: dict[str, Any] = {
        "allowed_adaptive_actions": adaptive_actions(spec),
        "budgets": {
            "turn_budget_ms": waits.first_output_ms,
            "node_budget_ms_default": profile.budgets.node_ms,
            "path_budget_ms_default": waits.stall_ms,
            "edge_budget_ms_default": profile.budgets.edge_ms,
        },
        "determinism": {
            "ordering_markers": list(ORDERING_MARKERS),
            "merge_rule_id": MERGE_RULE_ID,
            "merge_rule_version": MERGE_RULE_VERSION,
            "nondeterministic_inputs": _external_inputs(spec),
        },
        "edge_buffer_policies": {edge.id: edge.buffer for edge in compile_pipeline(spec).known().edges},
        "flow_control": profile.flow_control,
        "provider_bindings": provider_bindings(spec),
        "recording_policy": {
            "recording_level": recording_level(spec),
            "allowed_replay_modes": list(recording.replay_modes),
        },
        "snapshot_provenance": {
            "routing_view_snapshot": "routing-view/unmanaged",
            "admission_policy_snapshot": profile.admission.snapshot_ref(),
            "abi_compatibility_snapshot": "abi-compat/unmanaged",
            "version_resolution_snapshot": f"version-resolution/{pipeline_version(spec)}",
            "policy_resolution_snapshot": f"policy-resolution/sha256:{spec_digest(spec)}",
            "provider_health_snapshot": "provider-health/unmanaged",
        },
    }
    plain: dict[str, Any] = msgspec.to_builtins(policy)
    return plain


def provider_bindings(spec: PipelineSpec) -> dict[str, str]:
    """Return which provider serves each modality, such as ``openai/whisper-1``.

    Those that take over from it follow as ``llm.1``, ``llm.2`` and so on, and what serves a turn that was
    degraded as ``llm.lesser``.
    """
    bindings = {"vad": "silero"}
    for index, stt in enumerate((spec.stt, *spec.alternatives.stt)):
        name = f"openai/{stt.model}" if isinstance(stt, OpenAiStt) else "pocketsphinx"
        bindings[f"stt.{index}" if index else "stt"] = name
    for index, llm in enumerate((spec.llm, *spec.alternatives.llm)):
        bindings[f"llm.{index}" if index else "llm"] = _writer(llm)
    for index, tts in enumerate((spec.tts, *spec.alternatives.tts)):
        name = f"openai/{tts.model}" if isinstance(tts, OpenAiTts) else f"espeak/{tts.voice}"
        bindings[f"tts.{index}" if index else "tts"] = name
    return bindings | {f"{modality}.lesser": name for modality, name in lesser_forms(spec).items()}


def _writer(llm: FixedLlm | RulesLlm | OpenAiLlm) -> str:
    if isinstance(llm, OpenAiLlm):
        return f"openai/{llm.model}"
    return "fixed" if isinstance(llm, FixedLlm) else "rules"


def lesser_forms(spec: PipelineSpec) -> dict[str, str]:
    """Return what serves the rest of a turn that was degraded, by modality; those without one are left out.

    Recognition is not among them: it goes on with what it heard, without another provider.
    """
    degraded, voice = degraded_of(spec), lesser_voice_of(spec)
    written = {} if degraded is None else {"llm": _writer(degraded.llm)}
    return written | ({"tts": voice} if voice else {})


def degraded_of(spec: PipelineSpec) -> DegradedSection | None:
    """Return what the file declares for turns that are degraded; none where no turn may be."""
    if spec.degraded is UNSET or "degrade" not in adaptive_actions(spec):
        return None
    return spec.degraded


def lesser_voice_of(spec: PipelineSpec) -> str:
    """Return the voice that speaks the rest of a turn that was degraded; empty for none.

    The embedded voice stands in for voices that come over a network, where ``degrade`` is allowed.
    """
    voices = (spec.tts, *spec.alternatives.tts)
    if "degrade" not in adaptive_actions(spec) or any(isinstance(voice, EspeakTts) for voice in voices):
        return ""
    return f"espeak/{EspeakTts().voice}"


def key_variables(spec: PipelineSpec) -> tuple[str, ...]:
    """Return the environment variables that hold the keys of a pipeline's providers, sorted."""
    return tuple(sorted({part.api_key_env for part in endpoints(spec) if part.api_key_env}))


def endpoints(spec: PipelineSpec) -> list[OpenAiEndpoint]:
    """Return the servers that a pipeline reaches over a network."""
    others, degraded = spec.alternatives, degraded_of(spec)
    lesser = () if degraded is None else (degraded.llm,)
    parts = (spec.stt, spec.llm, spec.tts, *others.stt, *others.llm, *others.tts, *lesser)
    return [part for part in parts if isinstance(part, OpenAiEndpoint)]


def needs_network(spec: PipelineSpec) -> bool:
    """Whether a provider of the pipeline answers over a network, which virtual time cannot hurry."""
    return bool(endpoints(spec))


def _external_inputs(spec: PipelineSpec) -> list[dict[str, str]]:
    degraded = degraded_of(spec)
    lesser = () if degraded is None else (degraded.llm,)
    parts = {
        "stt": (spec.stt, *spec.alternatives.stt),
        "llm": (spec.llm, *spec.alternatives.llm, *lesser),
        "tts": (spec.tts, *spec.alternatives.tts),
    }
    external = [
        modality
        for modality, sections in parts.items()
        if any(isinstance(section, OpenAiStt | OpenAiLlm | OpenAiTts) for section in sections)
    ]
    return [
        {"input_key": name, "source": "external_call", "evidence_ref": f"provider/{name}"}
        for name in external
    ]


def _refuse_fractions(value: object) -> None:
    if isinstance(value, float):
        raise TypeError(f"a plan holds integers only, not {value}")
    if isinstance(value, dict):
        for item in value.values():
            _refuse_fractions(item)
    elif isinstance(value, list):
        for item in value:
            _refuse_fractions(item)
