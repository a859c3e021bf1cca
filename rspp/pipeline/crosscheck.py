"""The rules of a pipeline file that concern more than one key."""

from __future__ import annotations

import re

from msgspec import UNSET

from rspp.contracts.errors import ConfigurationError
from rspp.pipeline.base import ADAPTIVE_ACTIONS
from rspp.pipeline.checker import Fault, fault_at, nearest, shown
from rspp.pipeline.data_flow import REMEDY, data_flow, told
from rspp.pipeline.normalise import adaptive_actions, compile_pipeline, recording_level
from rspp.pipeline.patterns import parse_pattern
from rspp.pipeline.profile import SIMPLE_NAME, ExecutionProfile
from rspp.pipeline.quotas import POINTS
from rspp.pipeline.spec import OpenAiEndpoint, PipelineSpec, PocketsphinxStt, RulesLlm

_VOWELS = "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW"
_CONSONANTS = "B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH"
PHONES = frozenset(f"{_VOWELS} {_CONSONANTS}".split())
"""The 39 phones of the CMU dictionary, which the acoustic model of pocketsphinx was trained on."""

LESSER = "degraded.llm"

_SLOT = re.compile(r"<\s*([^<>]*?)\s*>")
_PLACE = re.compile(r"\{([^{}]*)\}")


def cross_faults(spec: PipelineSpec, lines: dict[str, int]) -> list[Fault]:
    """Return what contradicts itself in ``spec``.

    Args:
        spec: a pipeline whose keys are each valid.
        lines: line of each path that the author wrote.
    """
    finder = _Finder(lines)
    _times(spec, finder)
    before = len(finder.faults)
    if _profiles(spec, finder):
        for wrong in compile_pipeline(spec).faults:
            finder.add(wrong.path, wrong.problem, wrong.hint)
        _recording(spec, finder)
        _never_degraded(spec, finder)
        if len(finder.faults) == before:
            _border(spec, finder)
    slots: dict[str, tuple[str, ...]] = {}
    parts = {"stt": spec.stt, "llm": spec.llm, "tts": spec.tts}
    parts |= {f"alternatives.stt[{index}]": stt for index, stt in enumerate(spec.alternatives.stt)}
    parts |= {f"alternatives.llm[{index}]": llm for index, llm in enumerate(spec.alternatives.llm)}
    parts |= {f"alternatives.tts[{index}]": tts for index, tts in enumerate(spec.alternatives.tts)}
    rules = False
    for part, section in parts.items():
        if isinstance(section, RulesLlm):
            own = _slots(section, finder, part)
            _rules(section, own, finder, part)
            # The recogniser hears what the first rules expect.
            slots, rules = (slots, True) if rules else (own, True)
    _degraded(spec, finder)
    for part, section in parts.items():
        if isinstance(section, PocketsphinxStt):
            _recognition(section, slots, rules=rules, finder=finder, part=part)
        if isinstance(section, OpenAiEndpoint):
            _address(section, finder, part)
    return finder.faults


def profile_faults(profile: ExecutionProfile, lines: dict[str, int], path: str) -> list[Fault]:
    """Return what contradicts itself in a profile.

    Args:
        profile: a profile whose keys are each valid.
        lines: line of each path that the author wrote.
        path: where the profile is in the file; empty for a file of its own.
    """
    finder = _Finder(lines)
    where = f"{path}." if path else ""
    if profile.name == SIMPLE_NAME:
        finder.add(f"{where}name", f"{SIMPLE_NAME} is the built-in profile", "give it a name of its own")
    budget = profile.budgets
    finder.order(
        (f"{where}budgets.node_warn_ms", budget.node_warn_ms),
        (f"{where}budgets.node_ms", budget.node_ms),
        strict=False,
        why="a warning that comes after the end warns of nothing",
    )
    lanes = profile.flow_control.watermarks
    marks = {
        "edge.watermarks": profile.edge.watermarks,
        "flow_control.watermarks.DataLane": lanes.data,
        "flow_control.watermarks.ControlLane": lanes.control,
        "flow_control.watermarks.TelemetryLane": lanes.telemetry,
    }
    for name, mark in marks.items():
        finder.order(
            (f"{where}{name}.low", mark.low),
            (f"{where}{name}.high", mark.high),
            strict=True,
            why="between the two marks flow stays as it was; without a gap it flickers",
        )
    for point in POINTS:
        quota = getattr(profile.admission, point)
        for part in ("per_key", "pressure"):
            if getattr(quota, part) is not UNSET:
                finder.order(
                    (f"{where}admission.{point}.{part}", getattr(quota, part)),
                    (f"{where}admission.{point}.places", quota.places),
                    strict=False,
                    why="there are no more places than that",
                )
    finder.once(f"{where}adaptive_actions", profile.adaptive_actions)
    finder.once(f"{where}opt_in", profile.opt_in)
    finder.once(f"{where}recording.replay_modes", profile.recording.replay_modes)
    return finder.faults


def _profiles(spec: PipelineSpec, finder: _Finder) -> bool:
    """Note faults of the profiles; returns whether the one that is used is sound."""
    before = len(finder.faults)
    for key, profile in spec.profiles.items():
        if profile.name != key:
            finder.add(
                f"profiles.{key}.name",
                f"must be the name it is listed under (is {shown(profile.name)})",
                f"write `name: {key}`",
            )
        finder.faults += profile_faults(profile, finder.lines, f"profiles.{key}")
    if spec.adaptive_actions is not UNSET:
        finder.once("adaptive_actions", spec.adaptive_actions)
    if spec.profile != SIMPLE_NAME and spec.profile not in spec.profiles:
        known = [SIMPLE_NAME, *spec.profiles]
        finder.add(
            "profile",
            f"unknown execution profile ({shown(spec.profile)})",
            f"{nearest(spec.profile, known)}; or write {spec.profile}.profile.yaml beside the pipeline file",
        )
    return len(finder.faults) == before


class _Finder:
    def __init__(self, lines: dict[str, int]) -> None:
        self.lines = lines
        self.faults: list[Fault] = []

    def add(self, path: str, problem: str, hint: str) -> None:
        """Note a fault at the nearest written line of ``path``."""
        place = path
        while place and place not in self.lines:
            place = place.rpartition(".")[0]
        self.faults.append(fault_at(self.lines.get(place, 0), path, problem, hint))

    def order(self, low: tuple[str, float], high: tuple[str, float], *, strict: bool, why: str) -> None:
        """Note a fault unless ``low`` is below ``high`` (or equal, when not ``strict``)."""
        if low[1] < high[1] or (low[1] == high[1] and not strict):
            return
        blamed, other = (low, high) if low[0] in self.lines or high[0] not in self.lines else (high, low)
        relation = (
            ("below" if strict else "at most") if blamed is low else ("above" if strict else "at least")
        )
        self.add(blamed[0], f"must be {relation} {other[0]}, which is {other[1]} (is {blamed[1]})", why)

    def once(self, path: str, words: tuple[str, ...]) -> None:
        """Note the first word that occurs twice."""
        twice = [word for index, word in enumerate(words) if word in words[:index]]
        if twice:
            self.add(path, f"{twice[0]} is listed twice", "list each once")

    def pattern(self, path: str, text: str, slots: dict[str, tuple[str, ...]]) -> bool:
        """Note what is wrong with a pattern; returns whether it is sound."""
        unknown = [name for name in _SLOT.findall(text) if name not in slots]
        for name in unknown:
            hint = nearest(name, list(slots)) if slots else f"add `{name}:` with its phrases under llm.slots"
            self.add(path, f"slot <{shown(name).strip(chr(34))}> is not defined", hint)
        if unknown:
            return False
        try:
            parse_pattern(text, slots)
        except ConfigurationError as error:
            self.add(path, error.message, error.hint)
            return False
        return True


def _times(spec: PipelineSpec, finder: _Finder) -> None:
    turn, cut = spec.turn, spec.interruption
    finder.order(
        ("vad.silence", spec.vad.silence),
        ("vad.speech", spec.vad.speech),
        strict=True,
        why="a window between the two keeps what was before; without a gap speech flickers",
    )
    finder.order(
        ("turn.probe_ms", turn.probe_ms),
        ("turn.complete_wait_ms", turn.complete_wait_ms),
        strict=False,
        why="the recogniser must be asked before a complete sentence can be answered",
    )
    finder.order(
        ("turn.complete_wait_ms", turn.complete_wait_ms),
        ("turn.incomplete_wait_ms", turn.incomplete_wait_ms),
        strict=False,
        why="an incomplete sentence is waited for at least as long as a complete one",
    )
    finder.order(
        ("turn.incomplete_wait_ms", turn.incomplete_wait_ms),
        ("turn.max_utterance_ms", turn.max_utterance_ms),
        strict=True,
        why="the longest utterance must hold speech and the pause after it",
    )
    finder.order(
        ("interruption.short_release_ms", cut.short_release_ms),
        ("interruption.release_ms", cut.release_ms),
        strict=False,
        why="after a cough the voice comes back no later than after speech",
    )
    finder.order(
        ("interruption.short_burst_ms", cut.short_burst_ms),
        ("interruption.confirm_ms", cut.confirm_ms),
        strict=True,
        why="a burst cannot be a cough and an interruption at once",
    )
    if (turn.late_event == "remap") != (turn.late_grace_ms > 0):
        finder.add(
            "turn.late_grace_ms",
            f"{turn.late_grace_ms} does not go with late_event: {turn.late_event}",
            "remap needs some milliseconds of grace; the others have none",
        )
    finder.order(
        ("interruption.release_ms", cut.release_ms),
        ("turn.incomplete_wait_ms", turn.incomplete_wait_ms),
        strict=True,
        why="a hold must be released before the utterance that caused it ends",
    )


def _recording(spec: PipelineSpec, finder: _Finder) -> None:
    level, section = recording_level(spec), spec.recording
    if level == "L1" and section.until_minutes is UNSET:
        finder.add("recording.until_minutes", "required at level L1", "say for how many minutes, such as 60")
    if level != "L1" and section.until_minutes is not UNSET:
        finder.add(
            "recording.until_minutes",
            f"only level L1 ends by itself (level is {level}, until_minutes {section.until_minutes})",
            "leave it out, or use `level: L1`",
        )
    if level == "L2" and not section.approval.strip():
        finder.add("recording.approval", "required at level L2", "say who approved it, and why")
    if level != "L2" and section.allow:
        finder.add(
            "recording.allow",
            f"only level L2 keeps anything in full (level is {level}, allow is {section.allow[0]})",
            "leave it out, or use `level: L2` with `approval:`",
        )
    finder.once("recording.allow", section.allow)


def _degraded(spec: PipelineSpec, finder: _Finder) -> None:
    if spec.degraded is UNSET:
        return
    if isinstance(spec.degraded.llm, RulesLlm):
        _rules(spec.degraded.llm, _slots(spec.degraded.llm, finder, LESSER), finder, LESSER)
    if isinstance(spec.degraded.llm, OpenAiEndpoint):
        _address(spec.degraded.llm, finder, LESSER)


def _never_degraded(spec: PipelineSpec, finder: _Finder) -> None:
    actions = adaptive_actions(spec)
    if spec.degraded is not UNSET and "degrade" not in actions:
        wanted = ", ".join(action for action in ADAPTIVE_ACTIONS if action in (*actions, "degrade"))
        finder.add(
            "degraded",
            f"never used: adaptive_actions do not name degrade (they are: {', '.join(actions) or 'none'})",
            f"write `adaptive_actions: [{wanted}]`, or leave degraded out",
        )


def _address(endpoint: OpenAiEndpoint, finder: _Finder, part: str) -> None:
    if "@" in endpoint.base_url.partition("://")[2].split("/")[0]:
        finder.add(
            f"{part}.base_url",
            "holds a user name or password",
            "keep keys out of files: put the key in an environment variable, name that in api_key_env",
        )


def _border(spec: PipelineSpec, finder: _Finder) -> None:
    for crossing in data_flow(spec).crossings:
        if crossing.outcome == "reject":
            finder.add("data.external", told(crossing), REMEDY)


def _slots(llm: RulesLlm, finder: _Finder, part: str) -> dict[str, tuple[str, ...]]:
    """Note faults of the slots; returns them with their sound phrases, so that each is told once."""
    sound: dict[str, tuple[str, ...]] = {}
    for name, phrases in llm.slots.items():
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            finder.add(
                f"{part}.slots.{name}",
                f"slot name {shown(name)} is not allowed",
                "use letters, digits and underscores, beginning with a letter",
            )
        if not phrases:
            finder.add(f"{part}.slots.{name}", "the slot has no phrase", "add at least one phrase")
        kept = []
        for index, phrase in enumerate(phrases):
            path = f"{part}.slots.{name}[{index}]"
            if _SLOT.search(phrase):
                finder.add(path, "a slot cannot hold another slot", "write the phrases out")
            elif finder.pattern(path, phrase, {}):
                kept.append(phrase)
        sound[name] = tuple(kept) or ("any",)
    return sound


def _rules(llm: RulesLlm, slots: dict[str, tuple[str, ...]], finder: _Finder, part: str) -> None:
    for index, rule in enumerate(llm.rules):
        path = f"{part}.rules[{index}]"
        finder.pattern(f"{path}.hear", rule.hear, slots)
        heard = _SLOT.findall(rule.hear)
        for name in _PLACE.findall(rule.say):
            if name not in heard:
                finder.add(
                    f"{path}.say",
                    f"{{{shown(name).strip(chr(34))}}} repeats a slot that this rule does not hear",
                    nearest(name, heard) if heard else f"use <{name}> in `hear`, or write the word itself",
                )


def _recognition(
    stt: PocketsphinxStt, slots: dict[str, tuple[str, ...]], *, rules: bool, finder: _Finder, part: str
) -> None:
    if not stt.grammar and not rules:
        finder.add(
            f"{part}.grammar",
            "pocketsphinx needs a grammar, since the llm has no rules to take one from",
            "list the sentences to be recognised under stt.grammar, or use `stt: {provider: openai, ...}`",
        )
    for index, text in enumerate(stt.grammar):
        finder.pattern(f"{part}.grammar[{index}]", text, slots)
    for index, text in enumerate(stt.backchannels):
        finder.pattern(f"{part}.backchannels[{index}]", text, {})
    for word, phones in stt.pronunciations.items():
        path = f"{part}.pronunciations.{word}"
        if not re.fullmatch(r"[a-z][a-z'-]*", word):
            finder.add(
                path, f"{shown(word)} is not one word in small letters", "write the word as in patterns"
            )
        unknown = [phone for phone in phones.split() if phone not in PHONES]
        if unknown or not phones.split():
            given = shown(unknown[0]) if unknown else "none given"
            finder.add(
                path, f"unknown phone ({given})", f"CMU phones without stress: {', '.join(sorted(PHONES))}"
            )
