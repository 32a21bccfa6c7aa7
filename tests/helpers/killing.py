"""SIGKILL to an action in a process of its own, before or after one of its calls to AWS."""

import os
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aws_calls import READING

from fleet_pipeline.aws.clients import Aws


@dataclass
class Kill:
    """SIGKILL to one's own process around the n-th call, of writing ones only or of all."""

    at: int
    after: bool
    writing_only: bool
    seen: int = 0

    def before_send(self, event_name: str, **_: Any) -> None:
        operation = event_name.rsplit(".", 1)[1]
        self.seen += not (self.writing_only and operation.startswith(READING))
        if not self.after:
            self._fire()

    def response_received(self, **_: Any) -> None:
        if self.after:
            self._fire()

    def _fire(self) -> None:
        if self.seen == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def is_killed(action: Callable[[Aws], object], aws: Aws, kill: Kill) -> bool:
    """Do an action in a child, with clients of its own; return whether it was killed. If it was not, it must have succeeded."""
    mortal = Aws(aws.region, aws.account, aws.endpoint_url)
    mortal.session.events.register("before-send", kill.before_send)
    mortal.session.events.register("response-received", kill.response_received)
    for _ in (mortal.s3, mortal.iam, mortal.iot, mortal.functions, mortal.dynamodb, mortal.logs, mortal.secrets):
        pass  # made before the fork, with nothing yet connected
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            action(mortal)
            code = 0
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(code)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    return os.WIFSIGNALED(status)
