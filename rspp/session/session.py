"""The shell of one session: gives the kernel its inputs and performs the effects it returns.

Everything here runs on one event loop. Inputs become effects within the same loop step; what takes
longer (recognition, replying, speaking, renewing the lease, writing evidence) runs in a fixed set of
tasks, and none of them is made per frame.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from rspp import _kernel
from rspp._kernel import Admission, Effect, SessionKernel
from rspp.authority.watcher import LeaseWatcher
from rspp.contracts.conversation import Conversation
from rspp.contracts.envelope import DEFAULT_TENANT
from rspp.contracts.errors import ProviderError
from rspp.contracts.media import OUTPUT_RATE_HZ, Pcm
from rspp.evidence.levels import RecordingLevel
from rspp.nodes.edge import edge_buffer
from rspp.nodes.hosting import NodeHost
from rspp.nodes.invocation import Call, Candidates, Invocation, Modality
from rspp.nodes.playout import PlayoutNode, sound_time
from rspp.nodes.recognisers import Recognisers
from rspp.nodes.reply import PreparedSpeech, speak_reply
from rspp.nodes.segmenter import Segmenter
from rspp.nodes.stt import RecognitionNode
from rspp.nodes.voice_activity import VoiceActivityNode
from rspp.pipeline.candidates import provider_policy
from rspp.pipeline.normalise import compile_pipeline, plan_template, profile_of, turn_policy
from rspp.pipeline.quotas import admission_of
from rspp.pipeline.turn_start import turn_start_policy, turn_start_request
from rspp.providers.fixed import FixedResponder
from rspp.session.earlier import EarlierConversation
from rspp.session.foreign_words import ForeignWords
from rspp.session.notice import spoken_ahead
from rspp.session.presenter import Presenter
from rspp.session.recording import EVIDENCE_CAPACITY, SessionRecording
from rspp.session.state import NOTHING_HEARD, Kept, Reply
from rspp.session.texts import ChatTexts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rspp.authority.store import Lease, LeaseStore
    from rspp.contracts.ports import (
        Clock,
        ConnectionState,
        Hypothesis,
        Message,
        Offloader,
        Responder,
        Synthesizer,
        Transport,
    )
    from rspp.contracts.turn_start import TurnStart, TurnStarts
    from rspp.pipeline.spec import PipelineSpec
    from rspp.providers.registry import Providers
    from rspp.session.pool import SessionWork
    from rspp.session.recording import Recorder

log = structlog.get_logger(__name__)

NOTICES = {
    "greeting": "greeting",
    "takeover_notice": "takeover_notice",
    "failure_notice": "failure_notice",
    "unrecognised": "unrecognised_notice",
}


class Session:
    """One call: one caller, one kernel, one lease.

    Args:
        session_id: id of the logical conversation, stable over takeovers.
        spec: the pipeline.
        transport: the room or the files.
        providers: opened providers; the session closes them.
        store: lease store that ``lease`` came from.
        lease: lease held for this session.
        clock: the kernel's time.
        offloader: for blocking work.
        recorder: takes the evidence; none discards it.
        recording_level: how much of the call is recorded; what the pipeline says when left out.
        resumed: the session takes over a call that another runtime held.
        earlier: reads what that runtime left of the conversation, off the event loop; none when nothing
            was kept.
        admission: quotas that the sessions of the runtime share; none gives the session its own.
        tenant: whose share of those quotas counts when the profile says so.
        work: the session's share of the pool that its providers work in; none when they have threads of
            their own.
        turn_starts: tells what turns may start from; none lets them open without a control plane, which
            their plans say.
    """

    def __init__(
        self,
        *,
        session_id: str,
        spec: PipelineSpec,
        transport: Transport,
        providers: Providers,
        store: LeaseStore,
        lease: Lease,
        clock: Clock,
        offloader: Offloader,
        recorder: Recorder | None = None,
        recording_level: RecordingLevel | None = None,
        resumed: bool = False,
        earlier: Callable[[], Conversation] | None = None,
        admission: Admission | None = None,
        tenant: str = DEFAULT_TENANT,
        work: SessionWork | None = None,
        turn_starts: TurnStarts | None = None,
    ) -> None:
        self.session_id = session_id
        self.reason = ""
        self._spec = spec
        self._transport = transport
        self._providers = providers
        self._clock = clock
        self._offloader = offloader
        self._work = work
        self._resumed = resumed
        self._earlier = EarlierConversation(earlier, offloader) if resumed and earlier else None
        self._tenant = tenant
        self._turn_starts = turn_starts
        self._leave_turn_starts: Callable[[], None] | None = None
        self._foreign = ForeignWords()
        self._created_us, self._created_wall_ms = clock.now_us(), clock.wall_clock_ms()
        settings: dict[str, Any] = {
            "policy": turn_policy(spec) | turn_start_policy(turn_starts),
            "plan": plan_template(spec),
            "providers": provider_policy(
                spec,
                responders=len(providers.responders),
                synthesizers=len(providers.synthesizers),
                recognisers=len(providers.recognisers),
            ),
            "evidence_capacity": EVIDENCE_CAPACITY,
        }
        self.kernel = SessionKernel(
            session_id=session_id,
            policy=_kernel.TurnPolicy(**settings["policy"]),
            plan=_kernel.PlanTemplate(**settings["plan"]),
            now_us=self._created_us,
            wall_clock_ms=self._created_wall_ms,
            evidence_capacity=EVIDENCE_CAPACITY,
            providers=_kernel.ProviderPolicy(**settings["providers"]),
        )
        most = settings["providers"]["max_candidates"]
        self._voices, self._writers = providers.voices(most), providers.writers(most)
        self._lease = lease
        self._watcher = LeaseWatcher(
            store, lease, clock, offloader, on_renewed=self._renewed, on_lost=self._lost
        )
        graph = compile_pipeline(spec).known()
        self._kept = Kept()
        self._host = NodeHost(
            self.kernel, graph.nodes, clock, self._kept.of_node, self._measured, self._preempt
        )
        hearing = any(modality == "stt" for modality, _ in settings["providers"]["candidates"])
        hosted = self._host.dispatch("stt", providers.recognisers, 0)
        self._recognition = RecognitionNode(
            Recognisers(providers.recognisers, self.kernel if hearing else None, clock, hosted),
            clock,
            self._transcript,
            self._recognised,
            spec.turn.max_utterance_ms,
        )
        self._playout = PlayoutNode(
            self.kernel,
            clock,
            transport,
            edge_buffer(graph.edge("tts", "playout")),
            self._first_frame,
            self._drained,
            self._lease_expired,
            self._sound_left,
            self._sound_cleared,
            self._edge_decided,
        )
        self._host.serve("stt", hosted)
        self._host.serve("playout", self._playout)
        profile = profile_of(spec)
        updates = edge_buffer(graph.edge("turn", "presenter"))
        self._presenter = Presenter(transport, updates, clock, profile.flow_control.lane_bounds("control"))
        self._asking = (self.kernel, self._playout.edge, self._presenter.router)
        quotas = admission or admission_of(profile)
        for asking in self._asking:
            asking.admit_by(quotas, tenant if profile.admission.fairness_key == "tenant" else session_id)
        self._detection = VoiceActivityNode(providers.vad, self._window_heard)
        self._texts = ChatTexts()
        self._refused_utterance = self._shown_utterance = 0
        self._started = False
        self._recognition_failed = False
        self._speech_ended_us = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_us: int | None = None
        self._ended = asyncio.Event()
        self._left = False
        self._step_us = self._created_us
        self._recording = SessionRecording(
            session_id=session_id,
            spec=spec,
            kernel=self.kernel,
            clock=clock,
            speech=self._playout.edge,
            presenter=self._presenter.router,
            settings=settings,
            recorder=recorder,
            level=recording_level or RecordingLevel.of(spec, wall_ms=self._created_wall_ms),
            work=work,
        )
        self._capture = self._recording.capture

    # ------------------------------------------------------------------ life

    async def run(self) -> str:
        """Hold the call until it ends; returns the reason.

        Raises:
            TransportError: the room cannot be joined.
        """
        self._recording.begin(self._created_us, self._created_wall_ms)
        tasks: list[asyncio.Task[None]] = []
        try:
            self._perform(self.kernel.lease(self._clock.now_us(), self._lease.epoch, self._lease.deadline_us))
            if self._turn_starts is not None:
                request = turn_start_request(self._spec, self._tenant)
                self._leave_turn_starts = self._turn_starts.follow(request, self._turn_start)
            if self._resumed:
                self._migrate("rotated", "started")
            tasks = [
                asyncio.create_task(self._watcher.run(), name="lease"),
                asyncio.create_task(self._recording.run(), name="evidence"),
                asyncio.create_task(self._presenter.run(), name="presenter"),
            ]
            connecting = asyncio.create_task(self._transport.connect(self), name="connect")
            tasks.append(connecting)
            if self._earlier is not None:
                self._earlier.begin()
            await self._until_ended(connecting)
            if self._earlier is not None and not self._ended.is_set():
                await self._earlier.wait()
            if connecting.done() and not connecting.cancelled():
                connecting.result()
            if not self._ended.is_set():
                tasks.append(asyncio.create_task(self._recognition.run(), name="recognition"))
                tasks.append(asyncio.create_task(self._playout.run(), name="playout"))
                tasks.append(asyncio.create_task(self._prepare_notice(), name="notice"))
                self._start()
                await self._until_ended(*tasks)
                for task in tasks:
                    if task.done() and not task.cancelled() and task.exception() is not None:
                        task.result()
        finally:
            await self._shut(tasks)
        return self.reason

    async def _until_ended(self, *tasks: asyncio.Task[None]) -> None:
        """Wait for the end of the call, or for the first of ``tasks`` to fail or to be the only one done."""
        ended = asyncio.create_task(self._ended.wait())
        pending: set[asyncio.Task[Any]] = {ended, *tasks}
        try:
            while not self._ended.is_set():
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                if len(tasks) == 1 and tasks[0] in done:
                    return
                if any(not task.cancelled() and task.exception() is not None for task in done):
                    return
        finally:
            ended.cancel()

    def _migrate(self, *steps: str) -> None:
        """Record the steps by which a call that another runtime held comes here."""
        for step in steps:
            self._perform(self.kernel.migration(self._clock.now_us(), step, self._lease.epoch))

    def drain(self) -> None:
        """The runtime leaves: the running turn may end, and the kernel says when the session goes."""
        if not self._ended.is_set():
            self._perform(self.kernel.drain(self._step_time()))

    def end(self, reason: str) -> None:
        """End the call now; an open turn is aborted."""
        if not self._ended.is_set():
            self.reason = self.reason or reason
            self._perform(self.kernel.connection(self._step_time(), "ended", reason))
            self._ended.set()

    async def _shut(self, tasks: list[asyncio.Task[None]]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._turn is not None and self._turn.task is not None:
            tasks.append(self._turn.task)
        if self._earlier is not None:
            self._earlier.cancel()
        if self._leave_turn_starts is not None:
            self._leave_turn_starts()
        self.end("session_closed")
        if not self._left and tasks:
            await self._presenter.flush()
        for task in tasks:
            task.cancel()
        await self._transport.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._watcher.release()
        await self._providers.close()
        for asking in self._asking:
            asking.leave_admission()
        self._recording.finish()
        self._kept.end()

    # ------------------------------------------------------------------ from the transport

    def on_audio(self, pcm: Pcm) -> None:
        """Caller's audio at 16 kHz."""
        if self._ended.is_set():
            return
        if self._capture is not None and self._capture.wants_sound("caller"):
            turn = self._turn.number if self._turn is not None else 0
            self._capture.caller_sound(turn, self._clock.now_us(), pcm)
        if self._recognition.utterance:
            self._recognition.feed(pcm)
        self._detection.feed(pcm)

    def _window_heard(self, permille: int, media_sample: int) -> None:
        now = self._step_time()
        if permille >= self._spec.vad.speech * 1000:
            self._speech_ended_us = now
        self._perform(self.kernel.voice_activity(sound_time(now), media_sample, permille))

    def on_text(self, text: str, event_id: str = "") -> None:
        """A chat text of the caller: a turn like a spoken one, if the kernel lets it in."""
        if self._ended.is_set() or not text.strip():
            return
        number = self._texts.add(text.strip(), event_id)
        if self._started:
            self._let_in(number)
        else:
            self._texts.bound()

    def on_stop(self, event_id: str) -> None:
        """The caller asks the agent to be silent; what is being answered ends, if the kernel lets it in."""
        if self._ended.is_set():
            return
        now = self._step_time()
        refusal = self.kernel.arrive(now, event_id, len(event_id.encode()))
        if refusal:
            log.warning("a stop was refused", reason=refusal)
        else:
            self._perform(self.kernel.cancel(now, "stop"))

    def _let_in(self, reference: int) -> None:
        text, event_id = self._texts.get(reference)
        now, size = self._step_time(), len(text.encode())
        refusal = self.kernel.arrive(now, event_id, size)
        if refusal:
            self._texts.take(reference)
            log.warning("a chat text was refused", reason=refusal, size=size)
            return
        self._perform(self.kernel.text_message(now, reference))

    def _start(self) -> None:
        """Begin the conversation; texts that came before it are answered now."""
        self._started = True
        if self._resumed:
            self._reattach()
            self._migrate("reattached", "finished")
        self._perform(self.kernel.start(self._clock.now_us(), self._resumed))
        for reference in self._texts.waiting():
            self._let_in(reference)

    def _reattach(self) -> None:
        """Go on from the durable state that the other placement left, as far as it was read in time.

        Routing and hot state begin anew.
        """
        earlier = self._earlier.result() if self._earlier is not None else Conversation()
        if self.kernel.reattach(self._clock.now_us(), earlier.turns, len(earlier.messages)):
            self._kept.reattach(earlier)

    def on_successor(self, epoch: int) -> None:
        """The transport sees a holder of the session with another epoch; the kernel decides what it means."""
        if not self._ended.is_set():
            self._perform(self.kernel.routing_view(self._step_time(), epoch))
            self._give_way(epoch)

    def on_connection(self, state: ConnectionState, reason: str) -> None:
        """The connection changed."""
        if self._ended.is_set():
            return
        if state == "ended":
            self.end(reason or "ended")
        else:
            self._perform(self.kernel.connection(self._step_time(), state, reason))

    # ------------------------------------------------------------------ from the nodes

    def _transcript(self, utterance: int, revision: int, hypothesis: Hypothesis, *, probe: bool) -> None:
        if hypothesis.text or probe:
            self._kept.hypothesis = hypothesis
        if self._capture is not None:
            self._capture.text("caller", 0, self._clock.now_us(), hypothesis.text, final=False)
        self._perform(
            self.kernel.transcript(
                self._step_time(),
                utterance,
                revision,
                hypothesis.words,
                hypothesis.backchannel,
                hypothesis.complete,
                probe,
            )
        )

    def _recognised(self, outcome: str, latency_us: int) -> None:
        self._recognition_failed = outcome != "success"
        if not self._recognition.managed:
            now = self._clock.now_us()
            self.kernel.provider_outcome(now, self.kernel.turn, "stt", outcome, latency_us)
        self._recording.latency("stt_final", 0, latency_us)

    def _measured(self, name: str, turn: int, value_us: int) -> None:
        self._recording.latency(name, turn, value_us)

    def _first_frame(self, turn: int) -> None:
        now = self._clock.now_us()
        if self._turn is not None and self._turn.number == turn:
            self._recording.latency("turn_open_to_first_output", turn, now - self._turn.opened_us)
        self._perform(self.kernel.playback(now, turn, "started", 0))

    def _sound_left(self, turn: int, pcm: Pcm) -> None:
        if self._capture is not None:
            self._capture.agent_sound(turn, self._clock.now_us(), pcm)

    def _edge_decided(self) -> None:
        self._recording.edges_decided()

    def _sound_cleared(self, samples: int) -> None:
        if self._capture is not None:
            number = self._turn.number if self._turn is not None else 0
            self._capture.agent_cleared(number, self._clock.now_us(), samples)

    def _drained(self, turn: int) -> None:
        self._perform(self.kernel.generation_finished(self._step_time(), turn))

    def _lease_expired(self) -> None:
        self._perform(self.kernel.tick(self._step_time()))

    def _renewed(self, lease: Lease) -> None:
        self._perform(self.kernel.lease(self._clock.now_us(), lease.epoch, lease.deadline_us))

    def _turn_start(self, told: TurnStart) -> None:
        """The control plane said what turns may start from."""
        if not self._ended.is_set():
            said = msgspec.structs.asdict(told)
            said["admission_reason"] = self._foreign.bounded(told.admission_reason)
            self.kernel.turn_start(self._clock.now_us(), **said)
            self._arm_timer()

    def _lost(self, reason: str) -> None:
        if self._watcher.successor_epoch:
            self._give_way(self._watcher.successor_epoch)
        self._perform(self.kernel.lease_lost(self._step_time(), reason))

    def _give_way(self, successor: int) -> None:
        """It is known who speaks now: the old placement drains as its side of the migration."""
        for step in ("rotated", "started"):
            self._perform(self.kernel.migration(self._step_time(), step, successor))

    def segment_started(self, turn: int, text: str) -> None:
        """A segment of ``turn`` is about to be spoken: front ends see the reply grow."""
        if self._turn is not None and self._turn.number == turn:
            text = self._turn.spoken.text
            self._presenter.transcript(f"turn-{turn}", text, caller=False, final=False, turn=turn)

    def provider_finished(self, turn: int, modality: str, outcome: str, call: Call) -> None:
        """A call of ``turn`` ended."""
        if not call.managed:
            self.kernel.provider_outcome(self._clock.now_us(), turn, modality, outcome, call.total_us)
        name = "llm_first_word" if modality == "llm" else "tts_first_audio"
        if call.first_us >= 0:
            self._recording.latency(name, turn, call.first_us)

    # ------------------------------------------------------------------ effects

    def _perform(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case _kernel.HoldOutput():
                    self._playout.hold()
                case _kernel.CancelTurn(turn, reason):
                    self._cancel_turn(turn, reason)
                case _kernel.TellNode():
                    self._host.tell(effect)
                case _kernel.CancelInvocation(invocation):
                    # A reply cannot go on without one of its providers.
                    if not self._recognition.cancel(invocation) and self._turn is not None:
                        self._failed(self._turn, "provider_cancelled")
                case _kernel.ResumeOutput():
                    self._playout.resume()
                case _kernel.OpenTurn():
                    self._open_turn(effect)
                case _kernel.CloseTurn(turn, outcome, reason):
                    self._close_turn(turn, outcome)
                case _kernel.StartUtterance(utterance, _):
                    self._kept.hypothesis = NOTHING_HEARD
                    self._recognition.start(utterance, self._detection.lead_in())
                case _kernel.ProbeUtterance(utterance):
                    self._recognition.probe(utterance)
                case _kernel.ContinueUtterance(utterance):
                    self._recognition.resume(utterance)
                case _kernel.EndUtterance(utterance, used):
                    self._end_utterance(utterance, used=used)
                case _kernel.AgentState(state):
                    self._presenter.agent_state(state)
                case _kernel.LeaveRoom(reason):
                    self.reason = self.reason or reason
                    self._left = True
                    self._transport.leave_now()
                    self._ended.set()
                case _kernel.RefuseIntent():
                    self._refused(effect)
        self._arm_timer()

    def _arm_timer(self) -> None:
        due = self.kernel.next_deadline_us
        if due == self._timer_us:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_us = due
        if due is not None and not self._ended.is_set():
            delay_s = max(0, due - self._clock.now_us()) / 1e6
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self._timer = self._timer_us = None
        self._perform(self.kernel.tick(self._step_time()))

    def _refused(self, refused: _kernel.RefuseIntent) -> None:
        """No turn opened: what the caller said stays said, and a rejection is shown."""
        intent, reference = refused.intent, refused.reference
        log.warning("intent refused", intent=intent, outcome=refused.outcome, reason=refused.reason)
        if intent == "utterance" and reference != self._refused_utterance:
            self._refused_utterance = reference
            self._kept.remember("user", self._kept.hypothesis.text)
        elif intent == "text" and (text := self._texts.take(reference)):
            self._recording.transcript("caller", 0, text)
            self._kept.remember("user", text)
        told = refused.outcome == "reject" and intent in ("utterance", "text")
        if told and self._spec.failure_notice and not self._ended.is_set():
            # Without a turn nothing may be heard, so front ends are the only ones to be told now.
            notice = f"refused-{intent}-{reference}"
            self._presenter.transcript(notice, self._spec.failure_notice, caller=False, final=True)

    def _open_turn(self, opened: _kernel.OpenTurn) -> None:
        now = self._clock.now_us()
        self._recording.latency("turn_open_proposed_to_turn_open", opened.turn, now - self._step_us)
        turn = Reply(number=opened.turn, intent=opened.intent, opened_us=now)
        self._kept.open_turn(turn)
        synthesizers: Candidates[Synthesizer] = Candidates(
            self._voices, lambda: self._invocation(turn.number, "tts", self._voices)
        )
        responders: Candidates[Responder] = Candidates(
            self._writers, lambda: self._invocation(turn.number, "llm", self._writers)
        )
        if opened.intent == "utterance":
            if opened.reference != self._shown_utterance:
                self._show_caller(opened.reference, opened.turn)
            if opened.reference != self._refused_utterance:
                self._kept.remember("user", self._kept.hypothesis.text)
            self._recording.latency("end_of_speech_to_turn_open", opened.turn, now - self._speech_ended_us)
        elif opened.intent == "text":
            text = self._texts.take(opened.reference)
            if text:
                self._recording.transcript("caller", opened.turn, text)
                self._kept.remember("user", text)
        else:
            notice = opened.intent
            if notice == "unrecognised" and self._recognition_failed:
                notice = "failure_notice"
            text = getattr(self._spec, NOTICES[notice])
            responders = Candidates((FixedResponder(text),), lambda: Call(self._clock))
            if notice == "failure_notice" and self._kept.prepared:
                speech = PreparedSpeech(self._kept.prepared)
                synthesizers = Candidates((speech,), lambda: Call(self._clock))
        self._playout.begin(opened.turn, opened.epoch)
        turn.task = asyncio.create_task(self._reply(turn, responders, synthesizers), name="reply")

    def _invocation(self, turn: int, modality: Modality, providers: Sequence[object]) -> Invocation:
        dispatch = self._host.dispatch(modality, providers, turn)
        return Invocation(self.kernel, self._clock, turn, modality, dispatch)

    async def _reply(
        self, turn: Reply, responders: Candidates[Responder], synthesizers: Candidates[Synthesizer]
    ) -> None:
        def act(action: str) -> None:
            turn.action = action

        try:
            segmenter = Segmenter()
            with self._host.serving("segmenter", segmenter):
                await speak_reply(
                    turn.number,
                    self._kept.history,
                    responders,
                    segmenter,
                    synthesizers,
                    self._playout,
                    turn.spoken,
                    self,
                    act,
                )
            turn.generated_whole = self._turn is turn
        except ProviderError as error:
            log.warning("provider failed", turn=turn.number, error=error.message, reason=error.reason)
            self._failed(turn, error.reason)
        except Exception:
            # Whatever a provider's own code raises ends its turn and not the call.
            log.exception("reply failed", turn=turn.number)
            self._failed(turn, "node_timeout_or_failure")

    def _failed(self, turn: Reply, reason: str) -> None:
        self._perform(self.kernel.generation_failed(self._step_time(), turn.number, reason))

    def _step_time(self) -> int:
        """The time that a kernel step is given; latencies of its effects count from here."""
        self._step_us = self._clock.now_us()
        return self._step_us

    def _cancel_turn(self, number: int, reason: str) -> None:
        started = self._clock.now_us()
        heard = self._playout.cancel(number)
        fenced_us, cleared_us = self._playout.cancelled_us
        self._recording.latency("cancel_to_gate_closed", number, fenced_us - self._step_us)
        self._recording.latency("cancel_to_queue_cleared", number, cleared_us - self._step_us)
        turn = self._turn
        if turn is None or turn.number != number:
            return
        if heard:
            self._perform(self.kernel.playback(started, number, "cancelled", heard))
        self._finish_history(turn, heard)
        log.info("turn cancelled", turn=number, reason=reason, heard_ms=heard * 1000 // OUTPUT_RATE_HZ)

    def _preempt(self, number: int) -> None:
        """Stop what makes the answer of a turn; what has ended, or is what asks for it, ends by itself."""
        turn = self._turn
        if turn is None or turn.number != number or turn.task is None:
            return
        if turn.task is not asyncio.current_task() and not turn.stopped:
            turn.stopped = True
            turn.task.cancel()

    def _close_turn(self, number: int, outcome: str) -> None:
        turn = self._turn
        if turn is None or turn.number != number:
            return
        self._kept.close_turn()
        self._recording.turn_closed(number)
        if outcome == "commit":
            self._finish_history(turn, max(0, turn.spoken.generated - self._playout.shed_samples))
            delay_s = self._transport.queued_samples() / OUTPUT_RATE_HZ
            asyncio.get_running_loop().call_later(delay_s, self._played, turn)

    def _played(self, turn: Reply) -> None:
        """The last sample of a committed turn has been played."""
        if self._ended.is_set():
            return
        samples = turn.spoken.generated
        self._perform(self.kernel.playback(self._clock.now_us(), turn.number, "completed", samples))
        if turn.action == "hang_up":
            self.end("hang_up")

    def _end_utterance(self, utterance: int, *, used: bool) -> None:
        if self._recognition.waiting:
            self._recognition_failed = True
        self._recognition.end(utterance)
        self._show_caller(utterance, self.kernel.turn if used else 0)

    def _show_caller(self, utterance: int, turn: int) -> None:
        text = self._kept.hypothesis.text
        if text:
            self._shown_utterance = utterance
            self._recording.transcript("caller", turn, text)
            self._presenter.transcript(f"utterance-{utterance}", text, caller=True, final=True)

    # ------------------------------------------------------------------ history

    @property
    def _turn(self) -> Reply | None:
        return self._kept.reply

    @property
    def history(self) -> Sequence[Message]:
        """What was said: the caller's words, and of the agent's those that were heard."""
        return self._kept.history

    def _finish_history(self, turn: Reply, samples: int) -> None:
        text = turn.spoken.heard(samples)
        self._kept.remember("assistant", text)
        spoken = turn.spoken
        self._recording.transcript(
            "agent", turn.number, text, generated=spoken.generated, whole=turn.generated_whole
        )
        self._presenter.transcript(f"turn-{turn.number}", text, caller=False, final=True, turn=turn.number)

    async def _prepare_notice(self) -> None:
        text, voice = self._spec.failure_notice, self._providers.synthesizer
        if text:
            self._kept.prepared = await spoken_ahead(text, voice, self._offloader, self._work)
