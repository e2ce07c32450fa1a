"""Properties of protobuf field descriptors, under every supported version of protobuf."""

from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor

#: protobuf 6.31 and newer; `label`, which was there before, warns there and will go.
_HAS_IS_REPEATED: Final = hasattr(FieldDescriptor, "is_repeated")


def is_repeated(field: FieldDescriptor) -> bool:
    """Return whether a field holds a list."""
    older: Any = field  # whose stubs know no `label` any more
    return field.is_repeated if _HAS_IS_REPEATED else bool(older.label == FieldDescriptor.LABEL_REPEATED)
