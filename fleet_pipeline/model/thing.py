"""What a vehicle's thing is, and what a vehicle says of itself as it registers: the tables `[thing]` and
`[parameters.…]` of fleet.toml.

Sources: AWS IoT Core Developer Guide, thing-registry, provision-template; AWS IoT Core quotas (attributes of a thing).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from fleet_pipeline.model.errors import InvalidSetting
from fleet_pipeline.model.pattern import Pattern

SERIAL = "SerialNumber"
"""The parameter that every vehicle sends, and by which it is allowed or not."""

OWN_PARAMETERS = frozenset({SERIAL, "ClaimCertificateId"})
"""Parameters that the template has of itself."""

OWN_ATTRIBUTES = frozenset({"registered_by", "replacement"})
"""Attributes in which the hook keeps what it must know of a thing."""

ATTRIBUTES_WITHOUT_A_TYPE = 3
"""Attributes of a thing that has no type, those of the hook among them. Source: AWS IoT Core quotas."""

ATTRIBUTES = 50
"""Attributes of a thing that has a type."""

GROUPS = 5
"""Groups that the fleet puts a thing into.

AWS IoT takes ten, of which some are left to others; policies name them, and end at 6,144 characters.
"""

THING_NAME = re.compile(r"[a-zA-Z0-9:_-]{1,128}")
"""What a thing may be called. Source: API_CreateThing."""

_PLACE = re.compile(r"\$\{([^}]*)\}")
_NAME = re.compile(r"[a-zA-Z0-9:_-]{1,64}")
_VALUE = re.compile(r"[a-zA-Z0-9_.,@/:#=\[\]-]{0,800}")


def _said(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One thing that a vehicle says as it registers, beside its serial.

    Raises InvalidSetting, which names the field.
    """

    name: str = field(metadata={"meaning": "Its name, as the vehicle sends it: a letter, and then letters and digits."})
    pattern: str = field(
        metadata={
            "meaning": (
                "Regular expression that the whole value must match, as `[A-HJ-NPR-Z0-9]{17}`; no `*`, `+`, `.` or "
                "nesting."
            )
        }
    )
    required: bool = _said(True, "Whether a vehicle that does not send it is refused.")
    default: str = _said(
        "",
        "What is taken for it where a vehicle does not send it; only for one that is not required, and then it "
        "must be said.",
    )
    examples: tuple[str, ...] = _said(
        (),
        "What virtual and made-up vehicles send for it, one after another; left out: texts of the pattern's form. "
        "For a check of your own that lets in what it knows alone.",
    )

    def __post_init__(self) -> None:
        """Refuse what the template could not declare, or the hook not check in time."""
        if not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9]{0,63}", self.name) or self.name in OWN_PARAMETERS:
            raise InvalidSetting(
                "name",
                self.name,
                f"use a letter and then up to 63 letters and digits, and not {' or '.join(sorted(OWN_PARAMETERS))}",
            )
        try:
            form = Pattern(self.pattern)
        except ValueError as error:
            raise InvalidSetting("pattern", self.pattern, str(error)) from error
        if self.required and self.default:
            raise InvalidSetting(
                "default", self.default, "a required parameter has none: the vehicle sends it or is refused"
            )
        if not self.required and not form.takes(self.default):
            raise InvalidSetting(
                "default",
                self.default,
                "say what is taken for it, of the pattern's form: the template leaves no attribute out",
            )

        for number, example in enumerate(self.examples):
            if not form.takes(example):
                raise InvalidSetting(f"examples[{number}]", example, "it is not of the pattern's form")

    @property
    def form(self) -> Pattern:
        """The expression that its value must match."""
        return Pattern(self.pattern)

    @property
    def is_made_up(self) -> bool:
        """Whether a made-up vehicle sends it."""
        return self.required or bool(self.examples)

    def made_up(self, number: int) -> str:
        """Return what the vehicle of this number sends for it, always the same."""
        return self.examples[(number - 1) % len(self.examples)] if self.examples else self.form.example(number)


@dataclass(frozen=True, slots=True, kw_only=True)
class ThingTable:
    """What is made for a vehicle in AWS IoT's registry. Raises InvalidSetting, which names the field."""

    name: str = _said(
        "test-thing-${SerialNumber}",
        "Its name: a text that all things of the fleet begin with, and then `${SerialNumber}`.",
    )
    type: str = _said("", "Its thing type, which the fleet makes; left out: none.")
    groups: tuple[str, ...] = _said((), "Thing groups that it joins, which the fleet makes.")
    attributes: dict[str, str] = field(
        default_factory=dict,
        hash=False,
        metadata={"meaning": 'Its attributes: texts in which `${…}` stands for a parameter, as `vin = "${Vin}"`.'},
    )
    billing_group: str = _said("", "Its billing group, which the fleet makes; left out: none.")

    def __post_init__(self) -> None:
        """Refuse names that AWS IoT would not take, and things that could not be told from those of others."""
        prefix = self.name.removesuffix(f"${{{SERIAL}}}")
        if prefix == self.name or not re.fullmatch(r"[a-zA-Z0-9:_-]{1,60}", prefix):
            why = (
                f"write 1 to 60 of a-z, A-Z, 0-9, : _ - and then ${{{SERIAL}}}: the rights of the fleet's roles end at "
                "things that begin so"
            )
            raise InvalidSetting("name", self.name, why)
        for name, said in (
            ("type", self.type),
            ("billing_group", self.billing_group),
            *(("groups", group) for group in self.groups),
        ):
            if (said and not _NAME.fullmatch(said)) or (name == "groups" and not said):
                raise InvalidSetting(name, said, "use 1 to 64 of a-z, A-Z, 0-9, : _ and -")
        if len(set(self.groups)) < len(self.groups) or len(self.groups) > GROUPS:
            raise InvalidSetting("groups", ", ".join(self.groups), f"name at most {GROUPS}, each once")
        self._check_attributes()

    def _check_attributes(self) -> None:
        for name, text in self.attributes.items():
            if not re.fullmatch(r"[a-zA-Z0-9_.,@/:#=\[\]-]{1,128}", name) or name in OWN_ATTRIBUTES:
                why = f"use 1 to 128 of a-z, A-Z, 0-9 and _.,@/:#=[]-, and not {' or '.join(sorted(OWN_ATTRIBUTES))}"
                raise InvalidSetting("attributes", name, why)
            if not text or not _VALUE.fullmatch(_PLACE.sub("", text)):
                raise InvalidSetting(
                    f"attributes.{name}", text, "use a-z, A-Z, 0-9 and _.,@/:#=[]-, and ${…} for a parameter"
                )
        room = (ATTRIBUTES if self.type else ATTRIBUTES_WITHOUT_A_TYPE) - len(OWN_ATTRIBUTES)
        if len(self.attributes) > room:
            way = "" if self.type else "; with `type` there may be more"
            raise InvalidSetting(
                "attributes", ", ".join(self.attributes), f"AWS IoT takes {room} beside the hook's own{way}"
            )

    @property
    def prefix(self) -> str:
        """What every thing's name begins with."""
        return self.name.removesuffix(f"${{{SERIAL}}}")

    def check_places(self, parameters: Iterable[str]) -> None:
        """Refuse an attribute that speaks of a parameter that is not declared."""
        known = {SERIAL, *parameters}
        for name, text in self.attributes.items():
            for place in _PLACE.findall(text):
                if place not in known:
                    raise InvalidSetting(
                        f"thing.attributes.{name}",
                        text,
                        f"no parameter {place!r} is declared: do so by [parameters.{place}], or take one of "
                        f"{', '.join(sorted(known))}",
                    )


def parts(text: str) -> list[tuple[str, str]]:
    """Return a text in pieces, in their order: ("", text) as it stands, and (name, "") for a parameter."""
    pieces = _PLACE.split(text)
    return [
        piece
        for piece in ((each, "") if number % 2 else ("", each) for number, each in enumerate(pieces))
        if any(piece)
    ]
