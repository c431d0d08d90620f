"""When Python looks for garbage in cycles: new objects often, old ones while nobody waits.

The index is many small objects that live long. Collecting all generations as Python does by itself
stopped the server for up to a second, again and again while the index grew.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable

from contextpilot.server.entry import Activity

YOUNG_OBJECTS = 2_000
"""New objects per collection: some two milliseconds' work."""
_MIDDLE_COLLECTIONS = 3
_NEVER = 1 << 30
_LOOK_S = 1.0


class Collector(threading.Thread):
    """Collects old garbage once the server has done nothing for a second, or at the very latest.

    Args:
        activity: how busy the server is.
        pause_s: least time between two such collections.
        latest_s: time after which one happens though the server is busy.
    """

    def __init__(
        self,
        activity: Activity,
        pause_s: float = 600.0,
        latest_s: float = 7200.0,
        collect: Callable[[], object] = gc.collect,
    ) -> None:
        super().__init__(name="contextpilot-garbage", daemon=True)
        self._activity = activity
        self._pause = pause_s
        self._latest = latest_s
        self._collect = collect
        self._seen = activity.begun
        self._seen_last = activity.begun
        self._last = time.monotonic()

    def run(self) -> None:
        """Look once a second, for ever."""
        while True:
            time.sleep(_LOOK_S)
            self.look(time.monotonic())

    def look(self, now: float) -> bool:
        """Collect if it is time to, and return whether it was; call it about once a second."""
        begun = self._activity.begun
        is_idle = not self._activity.running and begun == self._seen
        self._seen = begun
        due = now - self._last
        if begun == self._seen_last or due < (self._pause if is_idle else self._latest):
            return False
        self._collect()
        self._seen_last, self._last = begun, now
        return True


def collect_seldom(activity: Activity) -> None:
    """Let this process collect as said above. For the command only: it holds for all of it."""
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, _MIDDLE_COLLECTIONS, _NEVER)
    Collector(activity).start()
