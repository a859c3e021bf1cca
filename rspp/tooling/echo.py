"""A bare echo participant: what the room itself costs, without any agent.

``python -m rspp.tooling.echo --url URL --token-env NAME`` joins a room and sends back every frame that
it hears, as it is. A caller's tone and its echo give the floor under every figure: twice the way
through the room and two processes that do nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys

from livekit import rtc

from rspp.contracts.errors import ConfigurationError, TransportError
from rspp.terminal import run_command

RATE_HZ = 48_000
"""The room's own rate, so that nothing is resampled."""
FRAME_MS = 10
STREAM_FRAMES = 20
CONNECT_LIMIT_SECONDS = 15.0


async def _send_back(track: rtc.Track, source: rtc.AudioSource) -> None:
    stream = rtc.AudioStream(
        track, capacity=STREAM_FRAMES, sample_rate=RATE_HZ, num_channels=1, frame_size_ms=FRAME_MS
    )
    try:
        async for event in stream:
            await source.capture_frame(event.frame)
    finally:
        await stream.aclose()


async def _echo(url: str, token: str) -> int:
    room = rtc.Room()
    ended = asyncio.Event()
    source = rtc.AudioSource(RATE_HZ, 1, queue_size_ms=0)
    tasks: set[asyncio.Task[None]] = set()

    def on_track(track: rtc.Track, *_: object) -> None:
        if track.kind == rtc.TrackKind.KIND_AUDIO and not tasks:
            task = asyncio.create_task(_send_back(track, source))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    def on_end(*_: object) -> None:
        ended.set()

    room.on("track_subscribed", on_track)
    room.on("participant_disconnected", on_end)
    room.on("disconnected", on_end)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    try:
        async with asyncio.timeout(CONNECT_LIMIT_SECONDS):
            await room.connect(url, token)
            track = rtc.LocalAudioTrack.create_audio_track("echo", source)
            options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE, dtx=False)
            await room.local_participant.publish_track(track, options)
    except (rtc.ConnectError, TimeoutError) as error:
        raise TransportError(
            f"the echo participant cannot join the room at {url}: {error or 'no answer'}",
            hint="check that the server runs and that the token is for it",
        ) from None
    await ended.wait()
    for task in list(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await room.disconnect()
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m rspp.tooling.echo", description="Echo a caller's voice.")
    parser.add_argument("--url", required=True)
    parser.add_argument("--token-env", default="RSPP_ECHO_TOKEN")
    options = parser.parse_args(arguments)

    def work() -> int:
        token = os.environ.get(options.token_env, "")
        if not token:
            raise ConfigurationError(
                f"the environment variable {options.token_env} holds no token",
                hint="set it to a LiveKit access token",
            )
        return asyncio.run(_echo(options.url, token))

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
