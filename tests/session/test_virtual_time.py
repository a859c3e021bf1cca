import asyncio

from rspp.session.virtual_time import VirtualClock, run_virtual


def test_an_hour_passes_without_waiting() -> None:
    async def main() -> int:
        clock = VirtualClock()
        before = clock.now_us()
        await asyncio.sleep(3600)
        return clock.now_us() - before

    assert abs(run_virtual(main()) - 3_600_000_000) <= 1


def test_timers_fire_in_the_order_of_their_times() -> None:
    async def main() -> list[str]:
        order: list[str] = []

        async def note(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            order.append(name)

        await asyncio.gather(note("late", 2), note("early", 1), note("middle", 1.5))
        return order

    assert run_virtual(main()) == ["early", "middle", "late"]


def test_real_events_are_waited_for_when_no_timer_is_left() -> None:
    async def main() -> int:
        return await asyncio.get_running_loop().run_in_executor(None, lambda: 7)

    assert run_virtual(main()) == 7


def test_the_wall_clock_follows_virtual_time() -> None:
    async def main() -> int:
        clock = VirtualClock(wall_clock_ms=5_000)
        await asyncio.sleep(2)
        return clock.wall_clock_ms()

    assert run_virtual(main()) == 7_000
