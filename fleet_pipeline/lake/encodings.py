"""Messages that are no JSON, read as the JSON text that says the same. What the text then becomes is `payload`'s.

One rule for all encodings: what JSON cannot say becomes what it can. Bytes are Base64 texts; NaN and the infinities are
the texts `NaN`, `Infinity` and `-Infinity`; instants are texts by ISO 8601; of a tag and of an extension the content
counts; undefined is null; the name of a field that is no text is the text that JSON writes of it. A message that begins
with `{` or `[` is JSON whatever the encoding: in none of the others does an object begin so.
"""

import io
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from math import isfinite, isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from fleet_pipeline.lake.payload import DEPTH, Status
from fleet_pipeline.model.errors import InvalidSetting, MissingExtra
from fleet_pipeline.model.form import Encoding

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, FieldDescriptor
    from google.protobuf.message import Message

Text = bytes | Status
"""The JSON text of a message, or why there is none."""

UNPACKED = 8 * 1024 * 1024
"""Bytes of a gzip message, unpacked. AWS IoT takes 128 KB, which telemetry packs into a tenth."""

DENSEST = 1032
"""Bytes that a byte of a gzip may unpack to. Source: zlib, technical details."""

GZIP, GZIP_BITS = b"\x1f\x8b", 31
"""How a gzip begins, and what tells zlib to expect one."""

_TAGS = (0, 1, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799)
"""Tags of CBOR of which cbor2 would make something else than their content; bignums (2 and 3) are numbers."""


@cache
def reader(encoding: Encoding) -> Callable[[bytes], Text] | None:
    """Return what reads messages of an encoding; None for JSON, which is read as it is.

    Raises MissingExtra, and InvalidSetting for a descriptor file that cannot be used. What is returned never raises;
    a message without bytes has none in any encoding.
    """
    if encoding.kind == "json":
        return None
    read = {"gzip": _gzip, "cbor": _cbor, "msgpack": _msgpack, "protobuf": _protobuf}[encoding.kind](encoding)
    return lambda payload: payload if payload[:1] in {b"{", b"[", b""} else read(payload)


def text_of(encoding: Encoding, payload: bytes) -> bytes | None:
    """Return the JSON text of a message; None for one that cannot be read."""
    read = reader(encoding)
    text = read(payload) if read else payload
    return text if isinstance(text, bytes) else None


def unpacked_bytes(payload: bytes) -> int:
    """Return how many bytes a gzip says that it has unpacked, as far as that is read."""
    return min(UNPACKED, DENSEST * len(payload), int.from_bytes(payload[-4:], "little"))


def _gzip(_: Encoding) -> Callable[[bytes], Text]:
    def read(payload: bytes) -> Text:
        if not payload.startswith(GZIP):
            return payload
        said = int.from_bytes(payload[-4:], "little")
        if said > UNPACKED:  # or these bytes are no size, as half of it is missing
            return Status.TOO_LARGE if said <= DENSEST * len(payload) else Status.MALFORMED
        unpack = zlib.decompressobj(GZIP_BITS)
        try:
            text = unpack.decompress(payload, said + 1)
        except zlib.error:
            return Status.MALFORMED
        return text if unpack.eof and not unpack.unused_data and len(text) == said else Status.MALFORMED

    return read


def _cbor(_: Encoding) -> Callable[[bytes], Text]:
    try:
        import cbor2  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise MissingExtra("cbor2", "encodings") from error
    tags = dict.fromkeys(_TAGS, lambda value, _: value)

    def read(payload: bytes) -> Text:
        source = io.BytesIO(payload)
        decoder = cbor2.CBORDecoder(
            source,
            tag_hook=lambda tag, _: tag.value,
            semantic_decoders=tags,
            max_depth=DEPTH + 1,  # where it ends exactly is `payload`'s matter
            allow_duplicate_keys=False,
        )
        try:
            value = decoder.decode()
        except cbor2.CBORDecodeError as error:
            said = str(error)
            if "Duplicate map key" in said:
                return Status.DUPLICATE_NAMES
            return Status.TOO_DEEP if "nesting depth" in said else Status.MALFORMED
        except RecursionError:
            return Status.TOO_DEEP
        except (ValueError, TypeError, OverflowError):
            return Status.MALFORMED
        return _as_json(value) if source.tell() == len(payload) else Status.MALFORMED

    return read


def _msgpack(_: Encoding) -> Callable[[bytes], Text]:
    decoder, encoder = msgspec.msgpack.Decoder(), msgspec.msgpack.Encoder()

    def read(payload: bytes) -> Text:
        try:
            value = decoder.decode(payload)
            # Written anew it is the same again, or of the names that it says some may be lost.
            if encoder.encode(value) != payload and _entries(payload) != _held(value):
                return Status.DUPLICATE_NAMES
        except RecursionError:
            return Status.TOO_DEEP
        except (ValueError, TypeError, OverflowError):  # msgspec's errors are ValueErrors
            return Status.MALFORMED
        return _as_json(value)

    return read


_FOLLOWING = {
    **dict.fromkeys((0xC0, 0xC2, 0xC3, 0xDC, 0xDD), 0),
    0xCC: 1,
    0xD0: 1,
    0xCD: 2,
    0xD1: 2,
    0xCA: 4,
    0xCE: 4,
    0xD2: 4,
    0xCB: 8,
    0xCF: 8,
    0xD3: 8,
    0xD4: 2,
    0xD5: 3,
    0xD6: 5,
    0xD7: 9,
    0xD8: 17,
}
"""Bytes that follow the first of an item of MessagePack, where their number is fixed."""
_COUNTED = {
    0xC4: (1, 0),
    0xC5: (2, 0),
    0xC6: (4, 0),
    0xC7: (1, 1),
    0xC8: (2, 1),
    0xC9: (4, 1),
    0xD9: (1, 0),
    0xDA: (2, 0),
    0xDB: (4, 0),
}
"""Bytes of the number that says how many follow it, and how many more."""
_MAPS, _ARRAYS = {0xDE: 2, 0xDF: 4}, {0xDC: 2, 0xDD: 4}


def _entries(payload: bytes) -> int:
    """Return how many fields the maps of a message of MessagePack have, which was decoded before."""
    place = count = 0
    while place < len(payload):
        head, place = payload[place], place + 1
        if head <= 0x7F or head >= 0xE0 or 0x90 <= head <= 0x9F:  # noqa: PLR2004 (small numbers and arrays)
            continue
        if head <= 0x8F:  # noqa: PLR2004 (small maps)
            count += head & 0x0F
        elif head <= 0xBF:  # noqa: PLR2004 (short texts)
            place += head & 0x1F
        elif head in _COUNTED:
            digits, more = _COUNTED[head]
            place += digits + more + int.from_bytes(payload[place : place + digits])
        elif head in _MAPS:
            digits = _MAPS[head]
            count, place = count + int.from_bytes(payload[place : place + digits]), place + digits
        else:
            place += _ARRAYS.get(head) or _FOLLOWING[head]
    return count


def _held(value: Any) -> int:
    """Return how many fields the objects of a value have."""
    if isinstance(value, dict):
        return len(value) + sum(map(_held, value)) + sum(map(_held, value.values()))
    return sum(map(_held, value)) if isinstance(value, list | tuple) else 0


class _Twice(Exception):
    """Two fields of an object have one name."""


def _as_json(value: Any) -> Text:
    """Return a value as JSON text.

    Nearly all values are written as they are; those with null, which NaN is written as, and those that msgspec cannot
    write are looked at closely.
    """
    try:
        text = _encoded(value)
    except (ValueError, TypeError, OverflowError, RecursionError):
        text = b"null"
    if b"null" not in text:
        return text
    try:
        return _encoded(_plain(value))
    except _Twice:
        return Status.DUPLICATE_NAMES
    except RecursionError:
        return Status.TOO_DEEP
    except (ValueError, TypeError, OverflowError):  # such as a number of 5,000 digits
        return Status.MALFORMED


def _simple(value: Any) -> Any:
    """Return what msgspec can write of a value that it does not know."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, msgspec.msgpack.Ext):
        return bytes(value.data)
    return getattr(value, "value", None)  # a simple value of CBOR has one, undefined none


_encoded = msgspec.json.Encoder(enc_hook=_simple).encode


def _plain(value: Any) -> Any:
    """Return a value with nothing in it that JSON cannot say."""
    if isinstance(value, float):
        return value if isfinite(value) else "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        fields = {_name(name): _plain(inner) for name, inner in value.items()}
        if len(fields) < len(value):
            raise _Twice
        return fields
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value


def _name(name: Any) -> str:
    """Return the name of a field: what JSON writes of it, without quotes where that is a text."""
    if isinstance(name, str):
        return name
    written = _encoded(_plain(name)).decode()
    return written[1:-1] if written[:1] == '"' else written


def _protobuf(encoding: Encoding) -> Callable[[bytes], Text]:
    from google.protobuf.message import DecodeError  # noqa: PLC0415 (takes 30 ms, and few need it)

    made = _message_class(encoding)

    def read(payload: bytes) -> Text:
        try:
            return _as_json(_fields(made.FromString(payload)))
        except RecursionError:
            return Status.TOO_DEEP
        except (DecodeError, ValueError, TypeError):
            return Status.MALFORMED

    return read


def _message_class(encoding: Encoding) -> "type[Message]":
    """Return the class of a message that a descriptor file describes. Raises InvalidSetting."""
    from google.protobuf.descriptor_pb2 import FileDescriptorSet  # noqa: PLC0415
    from google.protobuf.descriptor_pool import DescriptorPool  # noqa: PLC0415
    from google.protobuf.message import DecodeError  # noqa: PLC0415
    from google.protobuf.message_factory import GetMessageClass  # noqa: PLC0415

    pool, how = DescriptorPool(), "write it by protoc --include_imports --descriptor_set_out=…"
    try:
        described = FileDescriptorSet.FromString(Path(encoding.descriptor).read_bytes())
        for file in described.file:
            pool.Add(file)
    except OSError as error:
        why = f"it cannot be read ({error.strerror}); each machine that compacts must have it"
        raise InvalidSetting("protobuf_descriptor", encoding.descriptor, why) from error
    except (DecodeError, TypeError, ValueError) as error:
        why = f"it is no set of descriptors that is whole ({type(error).__name__}); {how}"
        raise InvalidSetting("protobuf_descriptor", encoding.descriptor, why) from error
    try:
        made: type[Message] = GetMessageClass(pool.FindMessageTypeByName(encoding.message))
    except KeyError as error:
        names = [f"{file.package}.{each.name}".strip(".") for file in described.file for each in file.message_type]
        why = f"{encoding.descriptor} describes {', '.join(names[:20]) or 'no message'}"
        raise InvalidSetting("protobuf_message", encoding.message, why) from error
    return made


def _fields(message: "Message") -> dict[str, Any]:
    """Return a message's fields by their names: those without presence always, others where they are said; what its
    descriptor does not know by their numbers.
    """
    said = dict[str, Any]()
    for name, has_presence, convert in _readers(message.DESCRIPTOR):
        if has_presence:
            if message.HasField(name):
                said[name] = convert(getattr(message, name))
        elif (value := convert(getattr(message, name))) is not None:
            said[name] = value
    if message.DESCRIPTOR.is_extendable:
        extensions = (each for each in message.ListFields() if each[0].is_extension)
        said |= {f"[{field.full_name}]": _converter(field)(value) for field, value in extensions}
    return said | _unknown(message)


def _unknown(of: Any) -> dict[str, Any]:
    from google.protobuf.unknown_fields import UnknownFieldSet  # noqa: PLC0415

    found = of if isinstance(of, UnknownFieldSet) else UnknownFieldSet(of)
    several = dict[str, list[Any]]()
    for each in found:
        data = each.data
        several.setdefault(str(each.field_number), []).append(
            _unknown(data) if isinstance(data, UnknownFieldSet) else data
        )
    return {number: values[0] if len(values) == 1 else values for number, values in several.items()}


@cache
def _readers(descriptor: "Descriptor") -> tuple[tuple[str, bool, Callable[[Any], Any]], ...]:
    return tuple((field.name, field.has_presence, _converter(field)) for field in descriptor.fields)


def _converter(field: "FieldDescriptor") -> Callable[[Any], Any]:
    """Return what makes JSON's kinds of a field's value; None of repeated ones without any."""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        inner = _single(field.message_type.fields_by_name["value"])
        return lambda entries: {key: inner(entries[key]) for key in entries} or None
    if _is_repeated(field):
        each = _single(field)
        return lambda values: [each(value) for value in values] or None
    return _single(field)


def _is_repeated(field: "FieldDescriptor") -> bool:
    return bool(field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED)


def _single(field: "FieldDescriptor") -> Callable[[Any], Any]:
    if field.message_type is not None:
        return _fields
    if field.enum_type is not None:
        names = {number: value.name for number, value in field.enum_type.values_by_number.items()}
        return lambda number: names.get(number, number)
    return _itself


def _itself(value: Any) -> Any:
    return value
