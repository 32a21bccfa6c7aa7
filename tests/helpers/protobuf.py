"""A file that describes messages of protobuf, as `protoc --descriptor_set_out` writes it, and such messages."""

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

F = descriptor_pb2.FieldDescriptorProto
KINDS = {
    "serial": F.TYPE_STRING,
    "speed": F.TYPE_DOUBLE,
    "count": F.TYPE_INT64,
    "large": F.TYPE_UINT64,
    "on": F.TYPE_BOOL,
    "raw": F.TYPE_BYTES,
}


def described():
    """Return the set of one file: acme.Telemetry, with fields of each kind."""
    file = descriptor_pb2.FileDescriptorProto(name="acme.proto", package="acme", syntax="proto3")
    state = file.enum_type.add(name="State")
    for number, name in enumerate(("PARKED", "DRIVING")):
        state.value.add(name=name, number=number)
    place = file.message_type.add(name="Place")
    for number, name in enumerate(("lat", "lon"), 1):
        place.field.add(name=name, number=number, type=F.TYPE_DOUBLE, label=F.LABEL_OPTIONAL)
    telemetry = file.message_type.add(name="Telemetry")
    for number, (name, kind) in enumerate(KINDS.items(), 1):
        telemetry.field.add(name=name, number=number, type=kind, label=F.LABEL_OPTIONAL)
    telemetry.field.add(name="place", number=10, type=F.TYPE_MESSAGE, type_name=".acme.Place", label=F.LABEL_OPTIONAL)
    telemetry.field.add(name="state", number=11, type=F.TYPE_ENUM, type_name=".acme.State", label=F.LABEL_OPTIONAL)
    telemetry.field.add(name="codes", number=12, type=F.TYPE_INT32, label=F.LABEL_REPEATED)
    telemetry.oneof_decl.add(name="_maybe")
    telemetry.field.add(
        name="maybe", number=13, type=F.TYPE_INT32, label=F.LABEL_OPTIONAL, oneof_index=0, proto3_optional=True
    )
    entry = telemetry.nested_type.add(name="DoorsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=F.TYPE_INT32, label=F.LABEL_OPTIONAL)
    entry.field.add(name="value", number=2, type=F.TYPE_BOOL, label=F.LABEL_OPTIONAL)
    telemetry.field.add(
        name="doors", number=14, type=F.TYPE_MESSAGE, type_name=".acme.Telemetry.DoorsEntry", label=F.LABEL_REPEATED
    )
    return descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()


def telemetry(**said):
    """Return a message of acme.Telemetry."""
    pool = DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(described()).file:
        pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("acme.Telemetry"))(**said)
