"""Remote write's messages: those fields of them that are read.

https://prometheus.io/docs/specs/prw/remote_write_spec/ and …/remote_write_spec_2_0/. The messages
are small enough to be described here, which needs no code generator and no file of its own.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    "string": _Field.TYPE_STRING,
    "double": _Field.TYPE_DOUBLE,
    "int64": _Field.TYPE_INT64,
    "uint32": _Field.TYPE_UINT32,
}

# Message -> field -> (number, type, whether repeated).
_MESSAGES: dict[str, dict[str, tuple[int, str, bool]]] = {
    "Label": {"name": (1, "string", False), "value": (2, "string", False)},
    "Sample": {"value": (1, "double", False), "timestamp": (2, "int64", False)},
    "SeriesV1": {"labels": (1, "Label", True), "samples": (2, "Sample", True)},
    "RequestV1": {"timeseries": (1, "SeriesV1", True)},
    "SeriesV2": {
        "labels_refs": (1, "uint32", True),
        "samples": (2, "Sample", True),
        "created_timestamp": (6, "int64", False),
    },
    "RequestV2": {"symbols": (4, "string", True), "timeseries": (5, "SeriesV2", True)},
}


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="remote_write.proto", package="remote_write", syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, repeated) in fields.items():
            added = message.field.add(name=field, number=number)
            added.label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
            if kind in _TYPES:
                added.type = _TYPES[kind]
            else:
                added.type, added.type_name = _Field.TYPE_MESSAGE, f".remote_write.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"remote_write.{name}"))
        for name in _MESSAGES
    }


_found = _classes()
RequestV1: Any = _found["RequestV1"]
RequestV2: Any = _found["RequestV2"]
