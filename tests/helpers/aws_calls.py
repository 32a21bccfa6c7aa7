"""What is asked of AWS, seen and answered below our code, by botocore's own events."""

from dataclasses import dataclass, field
from typing import Any

from botocore.awsrequest import AWSResponse

READING = ("Describe", "Get", "Head", "List", "Scan")


@dataclass
class Calls:
    """The operations that were called, such as `iot.CreatePolicy`, in their order."""

    made: list[str] = field(default_factory=list)

    def __call__(self, event_name: str, **_: Any) -> None:
        self.made.append(event_name.removeprefix("before-call."))

    @property
    def writing(self) -> list[str]:
        """Those that may change something."""
        return [call for call in self.made if not call.split(".")[1].startswith(READING)]


def watch(session: Any) -> Calls:
    """Return the calls that will be made by clients that this session has yet to make."""
    calls = Calls()
    session.events.register_first("before-call", calls)
    return calls


@dataclass
class Refusals:
    """So many refusals of one operation, after `skip` calls that go through; then all go through again."""

    code: str
    message: str
    times: int
    skip: int = 0

    def __call__(self, **_: Any) -> Any:
        if self.skip:
            self.skip -= 1
        elif self.times:
            self.times -= 1
            return AWSResponse("", 400, {}, None), {
                "Error": {"Code": self.code, "Message": self.message},
                "ResponseMetadata": {},
            }
        return None


def answer(client: Any, operation: str, by: Any) -> None:
    """Let something else answer an operation of a client, wherever it returns an answer."""
    client.meta.events.register(f"before-call.{client.meta.service_model.service_id.hyphenize()}.{operation}", by)


def stale(client: Any, operation: str, listed: str, key: Any = lambda each: each) -> None:
    """Let a listing go on showing what it has shown, whatever became of it: by the member of the answer and the key of each item."""
    shown: dict[str, dict[Any, Any]] = {}
    asked: list[str] = []

    def note(params: Any, **_: Any) -> None:
        asked.append(str(params))

    def remember(parsed: Any, **_: Any) -> None:
        found = shown.setdefault(asked[-1], {})
        found.update({key(each): each for each in parsed.get(listed, [])})
        parsed[listed] = list(found.values())

    service = client.meta.service_model.service_id.hyphenize()
    client.meta.events.register(f"provide-client-params.{service}.{operation}", note)
    client.meta.events.register(f"after-call.{service}.{operation}", remember)
