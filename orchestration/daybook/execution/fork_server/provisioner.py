"""Provide the standby kernel to Jupyter, by the entry point ``jupyter_client.kernel_provisioners``."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any, Optional

from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from daybook.execution.fork_server.standby_kernel import activate_standby_kernel

_IPYKERNEL_ARGUMENTS = ["-m", "ipykernel_launcher"]


class ForkProvisioner(LocalProvisioner):
    """A local provisioner that uses the job's standby kernel for an IPython kernel, if there is one."""

    process: Any

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Start the kernel and return its connection info."""
        ours = os.path.realpath(cmd[0]) == os.path.realpath(sys.executable) and cmd[1:3] == _IPYKERNEL_ARGUMENTS
        env = {**(kwargs.get("env") or os.environ), "JPY_PARENT_PID": str(os.getpid())}
        request = {"command": cmd[2:], "env": env, "cwd": kwargs.get("cwd") or str(Path.cwd())}
        pid = activate_standby_kernel(request, 1, 2) if ours else None
        if pid is None:
            return await super().launch_kernel(cmd, **kwargs)
        self.process = ForkedProcess(pid)
        # The process becomes the leader of a new session when it has read the request.
        self.pid = self.pgid = self.process.pid
        return self.connection_info


class ForkedProcess:
    """A forked child with the interface of ``subprocess.Popen`` that Jupyter uses."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: Optional[int] = None

    def poll(self) -> Optional[int]:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode

    def send_signal(self, signum: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, signum)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
