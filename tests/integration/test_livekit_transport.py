"""The LiveKit transport against a real server and an ordinary participant."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest
from livekit import api, rtc

from rspp.contracts.errors import TransportError
from rspp.contracts.media import MAX_QUEUED_MS, OUTPUT_FRAME_SAMPLES, OUTPUT_RATE_HZ
from rspp.tooling.room_call import echo_process
from rspp.transports import livekit, livekit_caller
from rspp.transports.livekit_access import agent_identity, mint_token, server_api
from tests.integration.rooms import FakeSink, Peer, access_to, agent_transport, tone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from rspp.tooling.livekit_server import LiveKitServer
    from rspp.transports.livekit import LiveKitTransport

pytestmark = pytest.mark.room

AGENT = agent_identity("s", 1)
QUEUE_SAMPLES = OUTPUT_RATE_HZ * MAX_QUEUED_MS // 1000


@asynccontextmanager
async def in_call(
    server: LiveKitServer, *, stall_seconds: float = 2.0
) -> AsyncIterator[tuple[LiveKitTransport, FakeSink, Peer]]:
    """A transport that talks with one participant in a room of its own."""
    sink, peer = FakeSink(), Peer(server, "room")
    transport = agent_transport(server, "room", stall_seconds=stall_seconds)
    try:
        _, _ = await asyncio.gather(peer.join(), transport.connect(sink))
        yield transport, sink, peer
    finally:
        await transport.close()
        await peer.leave()


async def speak(transport: LiveKitTransport, frames: int) -> int:
    """Write a tone; returns the most samples that were queued at any time."""
    peak = 0
    for number in range(frames):
        start = number * OUTPUT_FRAME_SAMPLES
        await transport.write(tone(OUTPUT_FRAME_SAMPLES, OUTPUT_RATE_HZ, start=start))
        peak = max(peak, transport.queued_samples())
    return peak


async def test_two_participants_hear_each_other(livekit_server: LiveKitServer) -> None:
    async with in_call(livekit_server) as (transport, sink, peer):
        assert sink.signals == [("connected", "")]
        peer.speaking = True
        await sink.until(lambda: sink.loud_frames >= 5)
        speaking = asyncio.create_task(speak(transport, 100))
        await peer.hear(AGENT)
        speaking.cancel()


async def test_no_more_than_40_ms_wait_behind_the_gate(livekit_server: LiveKitServer) -> None:
    async with in_call(livekit_server) as (transport, _, _):
        began = asyncio.get_running_loop().time()
        assert await speak(transport, 50) <= QUEUE_SAMPLES
        # 50 frames are one second, of which at most 40 ms may still wait.
        assert asyncio.get_running_loop().time() - began > 0.9
        assert 0 < transport.queued_samples() <= QUEUE_SAMPLES
        assert 0 < transport.clear() <= QUEUE_SAMPLES
        assert transport.queued_samples() == 0
        assert transport.clear() == 0


async def test_a_cancelled_write_does_not_break_the_next(livekit_server: LiveKitServer) -> None:
    async with in_call(livekit_server) as (transport, _, peer):
        writing = asyncio.create_task(speak(transport, 50))
        await peer.hear(AGENT)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        speaking = asyncio.create_task(speak(transport, 50))
        await peer.hear(AGENT)
        await speaking


async def test_an_odd_rest_is_filled_up_and_played(livekit_server: LiveKitServer) -> None:
    async with in_call(livekit_server) as (transport, _, peer):
        # So short a sound is lost on a path that does not flow yet.
        await asyncio.gather(speak(transport, 25), peer.hear(AGENT))
        heard = 0
        while heard != peer.loud[AGENT]:
            heard = peer.loud[AGENT]
            await asyncio.sleep(0.4)
        # The native source plays whole steps of 10 ms: these 4 ms would wait for the next utterance.
        await transport.write(np.full(100, 20_000, np.int16))
        await peer.hear(AGENT, 1)


async def test_chat_is_heard_whole(livekit_server: LiveKitServer) -> None:
    async with in_call(livekit_server) as (_, sink, peer):
        await peer.chat("good morning")
        await sink.until(lambda: sink.texts == ["good morning"])
        await peer.chat("x" * 9_000)
        await sink.until(lambda: len(sink.texts) == 2)
        assert len(sink.texts[1]) == 9_000


async def test_the_caller_and_nobody_else_may_stop_the_agent(livekit_server: LiveKitServer) -> None:
    async with in_call(livekit_server) as (_, sink, peer):
        assert await peer.stop(AGENT) == ""
        (event_id,) = sink.stops
        assert event_id.startswith("caller/")
        other = await Peer(livekit_server, "room", "other").join(microphone=False)
        try:
            await other.reaches(AGENT)
            with pytest.raises(rtc.RpcError, match="only the caller"):
                await other.stop(AGENT)
        finally:
            await other.leave()
        assert sink.stops == [event_id]


async def test_a_caller_without_a_microphone_may_write(livekit_server: LiveKitServer) -> None:
    sink, peer = FakeSink(), Peer(livekit_server, "room")
    transport = agent_transport(livekit_server, "room")
    connecting = asyncio.create_task(transport.connect(sink))
    try:
        await peer.join(microphone=False)
        await peer.reaches(AGENT)
        await peer.chat("hello")
        await connecting
        assert sink.texts == ["hello"]
        assert transport.caller_identity == "caller"
    finally:
        await transport.close()
        await peer.leave()


async def test_a_text_that_comes_while_the_agent_joins_is_heard(
    livekit_server: LiveKitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = rtc.LocalParticipant.publish_track
    peer = await Peer(livekit_server, "room").join(microphone=False)

    async def after_the_text(
        self: rtc.LocalParticipant, track: rtc.LocalTrack, options: rtc.TrackPublishOptions
    ) -> rtc.LocalTrackPublication:
        await peer.reaches(AGENT)
        await peer.chat("hello")
        await sink.until(lambda: bool(sink.texts))
        return await publish(self, track, options)

    monkeypatch.setattr(rtc.LocalParticipant, "publish_track", after_the_text)
    sink, transport = FakeSink(), agent_transport(livekit_server, "room")
    try:
        await transport.connect(sink)
        assert sink.texts == ["hello"]
    finally:
        await transport.close()
        await peer.leave()


async def test_front_ends_see_state_and_transcripts(livekit_server: LiveKitServer) -> None:
    async with in_call(livekit_server) as (transport, _, peer):
        await transport.set_agent_state("speaking")
        await transport.publish_transcript("a1", "hello there", caller=False, final=True)
        await transport.publish_transcript("c1", "good", caller=True, final=False)
        await peer.until(lambda: len(peer.streams) == 2)
        await peer.until(lambda: peer.attributes.get("lk.agent.state") == "speaking")
        agent, caller = peer.streams
        voice = next(iter(peer.room.remote_participants[AGENT].track_publications))
        assert agent[:2] == (AGENT, "hello there")
        assert agent[2] == {
            "lk.segment_id": "a1",
            "lk.transcription_final": "true",
            "lk.transcribed_track_id": voice,
        }
        assert caller[:2] == ("caller", "good")
        assert caller[2]["lk.transcription_final"] == "false"
        assert peer.track is not None
        assert caller[2]["lk.transcribed_track_id"] == peer.track.sid


async def test_mute_is_a_signal(livekit_server: LiveKitServer) -> None:
    async with in_call(livekit_server) as (_, sink, peer):
        assert peer.track is not None
        peer.track.mute()
        await sink.signal("muted", "track_muted")
        peer.track.unmute()
        await sink.signal("connected", "track_unmuted")


async def test_a_microphone_that_delivers_nothing_stalls(
    livekit_server: LiveKitServer, tmp_path: Path
) -> None:
    sink, transport = FakeSink(), agent_transport(livekit_server, "room", stall_seconds=1.0)
    async with echo_process(livekit_server, "room", tmp_path) as echo:
        try:
            await transport.connect(sink)
            await speak(transport, 25)
            await sink.until(lambda: sink.loud_frames > 5)
            os.kill(echo.pid, signal.SIGSTOP)
            await sink.signal("stall", "transport_disconnect_or_stall")
            os.kill(echo.pid, signal.SIGCONT)
            await sink.signal("connected", "audio_resumed")
        finally:
            await transport.close()


async def test_silence_of_a_live_microphone_is_no_stall(livekit_server: LiveKitServer) -> None:
    async with in_call(livekit_server, stall_seconds=0.7) as (_, sink, _peer):
        target = sink.samples + 2 * 16_000
        await sink.until(lambda: sink.samples >= target)
        assert sink.signals == [("connected", "")]


async def test_packets_prove_that_a_microphone_lives(livekit_server: LiveKitServer) -> None:
    async with in_call(livekit_server, stall_seconds=0.7) as (transport, sink, peer):
        peer.speaking = True
        await sink.until(lambda: sink.loud_frames > 5)
        caller = transport._caller
        assert caller is not None
        assert caller._pump is not None
        # No sound is noticed any more, though packets arrive.
        caller._pump.cancel()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.0):
                await sink.signal("stall", "transport_disconnect_or_stall")


async def test_a_caller_who_leaves_ends_the_call(livekit_server: LiveKitServer) -> None:
    async with in_call(livekit_server) as (_, sink, peer):
        await peer.leave()
        await sink.signal("ended", "caller_left")
        assert "disconnected" not in [state for state, _ in sink.signals]


async def test_a_caller_who_comes_back_in_time_goes_on(livekit_server: LiveKitServer) -> None:
    async with in_call(livekit_server) as (_, sink, peer):
        # The same identity from another window: the server puts the first one out.
        again = Peer(livekit_server, "room")
        try:
            await again.join()
            await sink.signal("disconnected", "caller_vanished")
            await sink.signal("connected", "caller_returned")
            again.speaking = True
            heard = sink.loud_frames
            await sink.until(lambda: sink.loud_frames > heard + 5)
            assert "ended" not in [state for state, _ in sink.signals]
        finally:
            await again.leave()
        assert peer.disconnected


async def test_a_deleted_room_ends_the_call(livekit_server: LiveKitServer) -> None:
    async with in_call(livekit_server) as (_, sink, _peer):
        client = server_api(access_to(livekit_server))
        await client.room.delete_room(api.DeleteRoomRequest(room="room"))
        await client.aclose()
        await sink.signal("ended", "room_deleted")


async def test_a_removed_agent_hears_of_it(livekit_server: LiveKitServer) -> None:
    async with in_call(livekit_server) as (_, sink, _peer):
        client = server_api(access_to(livekit_server))
        await client.room.remove_participant(api.RoomParticipantIdentity(room="room", identity=AGENT))
        await client.aclose()
        await sink.signal("ended", "removed_from_room")


@pytest.mark.parametrize(
    "scenario",
    [
        rtc.SimulateScenarioKind.SIMULATE_SIGNAL_RECONNECT,
        rtc.SimulateScenarioKind.SIMULATE_FULL_RECONNECT,
    ],
)
@pytest.mark.conformance("F6")
async def test_both_are_heard_again_after_a_reconnect(
    livekit_server: LiveKitServer, scenario: rtc.SimulateScenarioKind.ValueType
) -> None:
    async with in_call(livekit_server) as (transport, sink, peer):
        await transport.set_agent_state("listening")
        await peer.until(lambda: peer.attributes.get("lk.agent.state") == "listening")
        peer.attributes.clear()
        room = transport._room
        assert room is not None
        await room.simulate_scenario(scenario)
        await sink.signal("reconnecting", "transport_disconnect_or_stall")
        await transport.set_agent_state("thinking")
        await sink.signal("connected", "reconnected")
        peer.speaking = True
        heard = sink.loud_frames
        await sink.until(lambda: sink.loud_frames > heard + 5)
        speaking = asyncio.create_task(speak(transport, 500))
        await peer.hear(AGENT)
        speaking.cancel()
        # A participant that is new to the peer comes with its state, and no change is told.
        await peer.until(
            lambda: peer.room.remote_participants[AGENT].attributes.get("lk.agent.state") == "thinking"
        )


async def test_the_new_holder_puts_the_old_one_out(livekit_server: LiveKitServer) -> None:
    # One that knows nothing of epochs, such as a process that was paused.
    old = await Peer(livekit_server, "room", AGENT).join(microphone=False)
    peer = await Peer(livekit_server, "room").join()
    successor = agent_transport(livekit_server, "room", epoch=2, caller="caller")
    try:
        await successor.connect(FakeSink())
        await old.until(lambda: old.disconnected)
        await peer.until(lambda: AGENT in peer.left)
    finally:
        await successor.close()
        await old.leave()
        await peer.leave()


async def test_an_old_one_that_comes_back_is_put_out_again(livekit_server: LiveKitServer) -> None:
    peer = await Peer(livekit_server, "room").join()
    holder = agent_transport(livekit_server, "room", epoch=2)
    old = Peer(livekit_server, "room", AGENT)
    try:
        await holder.connect(FakeSink())
        await old.join(microphone=False)
        await old.until(lambda: old.disconnected)
    finally:
        await holder.close()
        await old.leave()
        await peer.leave()


async def test_a_holder_that_sees_its_successor_leaves(livekit_server: LiveKitServer) -> None:
    async with in_call(livekit_server) as (_, sink, peer):
        successor = await Peer(livekit_server, "room", agent_identity("s", 2)).join(microphone=False)
        await sink.signal("ended", "superseded")
        assert sink.successors == [2]
        await peer.until(lambda: AGENT in peer.left)
        await successor.leave()


@pytest.mark.conformance("AE-003")
async def test_an_old_holder_is_refused_beside_the_new_one(livekit_server: LiveKitServer) -> None:
    sink, peer = FakeSink(), Peer(livekit_server, "room")
    holder = agent_transport(livekit_server, "room", epoch=2)
    await asyncio.gather(peer.join(), holder.connect(sink))
    late = agent_transport(livekit_server, "room", epoch=1)
    try:
        with pytest.raises(TransportError, match="another runtime has taken over") as caught:
            await late.connect(FakeSink())
        assert caught.value.reason == "lease_deauthorized"
        assert AGENT not in peer.loud
    finally:
        await late.close()
        await holder.close()
        await peer.leave()


async def test_leave_now_is_silent_at_once(livekit_server: LiveKitServer) -> None:
    async with in_call(livekit_server) as (transport, _, peer):
        speaking = asyncio.create_task(speak(transport, 500))
        await peer.hear(AGENT)
        transport.leave_now()
        assert transport.queued_samples() == 0
        await peer.until(lambda: AGENT in peer.left)
        # Further frames go nowhere, and fast.
        await asyncio.wait_for(speaking, 5)


async def test_no_caller_within_the_limit(livekit_server: LiveKitServer) -> None:
    transport = agent_transport(livekit_server, "room", wait_seconds=0.2)
    with pytest.raises(TransportError, match="no caller came to room 'room'"):
        await transport.connect(FakeSink())


async def test_an_agent_is_not_taken_for_the_caller(livekit_server: LiveKitServer) -> None:
    access = access_to(livekit_server)
    first = agent_transport(livekit_server, "room", caller="somebody")
    waiting = asyncio.create_task(first.connect(FakeSink()))
    listener = await Peer(livekit_server, "room", "listener").join(microphone=False)
    await listener.until(lambda: AGENT in listener.room.remote_participants)
    agent = listener.room.remote_participants[AGENT]
    await listener.until(lambda: bool(agent.track_publications))
    second = livekit.LiveKitTransport(
        url=access.websocket_url,
        token=mint_token(access, room="room", identity="agent-t-e1"),
        identity="agent-t-e1",
        room_name="room",
        caller_wait_seconds=0.5,
    )
    with pytest.raises(TransportError, match="no caller came"):
        await second.connect(FakeSink())
    await first.close()
    await asyncio.gather(waiting, return_exceptions=True)
    await listener.leave()


async def test_closing_frees_everything_and_may_be_repeated(livekit_server: LiveKitServer) -> None:
    async with in_call(livekit_server) as (transport, _, _peer):
        own = {
            task for task in asyncio.all_tasks() if "room" in task.get_name() or "caller" in task.get_name()
        }
        await transport.close()
        await transport.close()
        assert all(task.done() for task in own)


async def test_closing_before_connecting_is_harmless(livekit_server: LiveKitServer) -> None:
    transport = agent_transport(livekit_server, "room")
    await transport.close()
    assert transport.clear() == 0


async def test_a_room_that_does_not_take_the_voice_is_entered_anew(
    livekit_server: LiveKitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = rtc.LocalParticipant.publish_track
    hung: list[str] = []

    async def hangs_once(
        self: rtc.LocalParticipant, track: rtc.LocalTrack, options: rtc.TrackPublishOptions
    ) -> rtc.LocalTrackPublication:
        if self.identity == AGENT and not hung:
            hung.append(self.identity)
            await asyncio.Event().wait()
        return await publish(self, track, options)

    monkeypatch.setattr(livekit, "PUBLISH_SECONDS", 0.3)
    monkeypatch.setattr(rtc.LocalParticipant, "publish_track", hangs_once)
    async with in_call(livekit_server) as (transport, sink, peer):
        assert hung == [AGENT]
        assert sink.signals == [("connected", "")]
        speaking = asyncio.create_task(speak(transport, 100))
        await peer.hear(AGENT)
        speaking.cancel()


async def test_a_microphone_that_does_not_come_makes_it_enter_anew(
    livekit_server: LiveKitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribe = rtc.RemoteTrackPublication.set_subscribed
    ignored: list[str] = []

    def ignores_once(self: rtc.RemoteTrackPublication, subscribed: bool) -> None:  # noqa: FBT001
        if ignored:
            subscribe(self, subscribed)
        ignored.append(self.sid)

    monkeypatch.setattr(livekit_caller, "SUBSCRIBE_SECONDS", 0.5)
    monkeypatch.setattr(rtc.RemoteTrackPublication, "set_subscribed", ignores_once)
    async with in_call(livekit_server) as (_, sink, peer):
        assert len(ignored) >= 2
        assert sink.signals == [("connected", "")]
        peer.speaking = True
        await sink.until(lambda: sink.loud_frames >= 5)


async def test_a_room_whose_media_never_come_is_given_up(
    livekit_server: LiveKitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(livekit_caller, "SUBSCRIBE_SECONDS", 0.2)
    monkeypatch.setattr(rtc.RemoteTrackPublication, "set_subscribed", lambda *_: None)
    peer = await Peer(livekit_server, "room").join()
    with pytest.raises(TransportError, match="did not deliver the caller's microphone"):
        await agent_transport(livekit_server, "room").connect(FakeSink())
    await peer.leave()


async def test_leaving_while_joining_publishes_nothing(livekit_server: LiveKitServer) -> None:
    transport = agent_transport(livekit_server, "room")
    peer = await Peer(livekit_server, "room").join()
    connecting = asyncio.create_task(transport.connect(FakeSink()))
    transport.leave_now()
    with pytest.raises(TransportError, match="was left while joining"):
        await connecting
    assert peer.loud == {}
    await peer.leave()
