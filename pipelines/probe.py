"""Whether a hub can be reached, asked without making anybody wait for it."""

import logging
import threading
import time

log = logging.getLogger(__name__)

#: What a proxy or a gateway says in the name of a hub that it cannot reach.
NOT_THE_HUB = frozenset({407, 502, 503, 504})


class Probe:
    """One question to a hub, asked in a thread of its own.

    Attributes:
        reason: why the answer is no, in the words of whoever refused; empty until then.
    """

    def __init__(self, endpoint: str, timeout_s: float, *, before: bool | None = None) -> None:
        """Ask at once.

        Args:
            endpoint: address of the hub.
            timeout_s: seconds it has for each step of the answer.
            before: answer of an older probe, which stands until this one has its own.
        """
        self.reason = ""
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._before = before
        self._reachable = False
        self._born = time.monotonic()
        self._answered = threading.Event()
        threading.Thread(target=self._ask, name="hub-probe", daemon=True).start()

    def is_older_than(self, seconds: float) -> bool:
        """Whether it has its answer and asked for it longer ago than that."""
        return self._answered.is_set() and time.monotonic() - self._born > seconds

    def answer(self, wait_s: float) -> bool:
        """Return the last answer known, waiting only where there is none at all yet."""
        if self._before is not None and not self._answered.is_set():
            return self._before
        return self.own_answer(wait_s)

    def own_answer(self, wait_s: float) -> bool:
        """Return this probe's own answer; no where none has come `wait_s` after it asked."""
        self._answered.wait(max(self._born + wait_s - time.monotonic(), 0.0))
        return self._reachable

    def _ask(self) -> None:
        import httpx

        try:
            # any other answer will do, an error page too: it shows that somebody is there
            answer = httpx.head(f"{self._endpoint}/api/models", timeout=self._timeout_s)
            self._reachable = answer.status_code not in NOT_THE_HUB
            self.reason = "" if self._reachable else f"error {answer.status_code}"
        except Exception as error:  # the address, the proxy and the certificates can be wrong
            self.reason = str(error).partition("\n")[0][:150] or type(error).__name__
        finally:
            self._answered.set()
            if self.reason:
                log.info("The hub %s does not answer: %s", self._endpoint, self.reason)
