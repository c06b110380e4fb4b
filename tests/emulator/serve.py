"""Serves the emulator of AWS on loopback; a program of its own, run by a Python that has it, which Daybook's has not.

    python serve.py FOLDER      (it writes its port into FOLDER/port once it listens)

Nothing of Daybook is imported. The emulator is ministack as it is, but for its schedules' clock: it can be moved, by the
seconds in FOLDER/ahead, and is looked at often, for no test can wait until two in the morning.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from pathlib import Path
from types import SimpleNamespace

OFTEN = 0.2
"""Seconds between two looks at the schedules."""


def main(folder: Path) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    os.environ.update(GATEWAY_PORT=str(port), MINISTACK_HOST="127.0.0.1")

    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from ministack.app import app
    from ministack.services import scheduler

    def now() -> float:
        ahead = folder / "ahead"
        return time.time() + (float(ahead.read_text()) if ahead.exists() else 0)

    scheduler.time = SimpleNamespace(time=now, sleep=lambda _: time.sleep(OFTEN))

    config = Config()
    config.bind = [f"fd://{listening.fileno()}"]
    config.keep_alive_timeout = 75
    config.loglevel = "WARNING"
    (folder / "port.new").write_text(str(port))
    (folder / "port.new").replace(folder / "port")

    async def serving() -> None:
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        await serve(app, config, shutdown_trigger=ended.wait)

    asyncio.run(serving())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
