"""Points at which tests kill the worker's process, as a power cut would."""

from __future__ import annotations

import os
import signal


class Faults:
    """Kills this process with SIGKILL when a point is reached for the n-th time.

    Args:
        plan: "<point>:<n>" as in "written:3", or "" for never. Only tests set it, as `ABEYANCE_TEST_FAULT`.
    """

    def __init__(self, plan: str = ""):
        self._point, _, number = plan.rpartition(":")
        self._left = int(number) if plan else 0

    def at(self, point: str) -> None:
        """Say that `point` is reached."""
        if self._left and point == self._point:
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)
