import asyncio

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rspp.contracts.media import OUTPUT_FRAME_SAMPLES, OUTPUT_RATE_HZ, Pcm
from rspp.session.virtual_time import run_virtual
from rspp.transports.loopback import INPUT_TICK_SAMPLES, LoopbackTransport


class FakeSink:
    def __init__(self) -> None:
        self.audio: list[Pcm] = []
        self.states: list[str] = []
        self.ended = asyncio.Event()

    def on_audio(self, pcm: Pcm) -> None:
        self.audio.append(pcm)

    def on_text(self, text: str, event_id: str = "") -> None:
        raise AssertionError(text)

    def on_stop(self, event_id: str) -> None:
        raise AssertionError(event_id)

    def on_successor(self, epoch: int) -> None:
        raise AssertionError(epoch)

    def on_connection(self, state: str, reason: str) -> None:
        self.states.append(state)
        if state == "ended":
            self.ended.set()


class FakeCaller:
    def __init__(self, ticks: int) -> None:
        self.heard: list[Pcm] = []
        self._left = ticks

    def hear(self, pcm: Pcm) -> None:
        self.heard.append(pcm)

    def speak(self) -> Pcm | None:
        self._left -= 1
        return np.full(INPUT_TICK_SAMPLES, self._left, dtype=np.int16) if self._left >= 0 else None

    def agent_state(self, state: str) -> None:
        pass

    def transcript(self, text: str, *, caller: bool, final: bool) -> None:
        pass


def ramp(start: int, samples: int) -> Pcm:
    return (np.arange(start, start + samples) % 30_000 + 1).astype(np.int16)


def test_what_is_written_is_heard_sample_by_sample_and_never_more_than_40_ms_wait() -> None:
    async def main() -> tuple[Pcm, int]:
        caller, sink = FakeCaller(150), FakeSink()
        transport = LoopbackTransport(caller)
        await transport.connect(sink)
        most = 0
        for frame in range(50):
            await transport.write(ramp(frame * OUTPUT_FRAME_SAMPLES, OUTPUT_FRAME_SAMPLES))
            most = max(most, transport.queued_samples())
        await sink.ended.wait()
        await transport.close()
        return np.concatenate(caller.heard), most

    heard, most = run_virtual(main())
    assert most <= OUTPUT_RATE_HZ * 40 // 1000
    assert np.array_equal(heard[: 50 * OUTPUT_FRAME_SAMPLES], ramp(0, 50 * OUTPUT_FRAME_SAMPLES))
    assert not heard[50 * OUTPUT_FRAME_SAMPLES :].any()


@settings(max_examples=30)
@given(st.lists(st.integers(0, 39_000), min_size=1, max_size=12))
def test_clear_returns_exactly_the_samples_that_are_not_heard(waits_us: list[int]) -> None:
    async def main() -> None:
        caller, sink = FakeCaller(400), FakeSink()
        transport = LoopbackTransport(caller)
        await transport.connect(sink)
        position = 0
        for wait_us in waits_us:
            await transport.write(ramp(position, OUTPUT_FRAME_SAMPLES))
            await transport.write(ramp(position + OUTPUT_FRAME_SAMPLES, OUTPUT_FRAME_SAMPLES))
            position += 2 * OUTPUT_FRAME_SAMPLES
            await asyncio.sleep(wait_us / 1e6)
            position -= transport.clear()
            assert transport.queued_samples() == 0
        await sink.ended.wait()
        await transport.close()
        heard = np.concatenate(caller.heard)
        assert np.array_equal(heard[heard > 0], ramp(0, position))

    run_virtual(main())


def test_the_caller_hanging_up_ends_the_call() -> None:
    async def main() -> FakeSink:
        sink = FakeSink()
        transport = LoopbackTransport(FakeCaller(3))
        await transport.connect(sink)
        await sink.ended.wait()
        await transport.close()
        return sink

    sink = run_virtual(main())
    assert len(sink.audio) == 3
    assert sink.states == ["ended"]
