"""What the marshmallow schemas of this package share."""

from typing import Any

from marshmallow import Schema, ValidationError

from analytics.suggestion import did_you_mean


class StrictSchema(Schema):
    """Refuses names that it does not know, and suggests the closest name that it knows."""

    def handle_error(self, error: ValidationError, data: Any, *, many: bool, **kwargs: Any) -> None:
        unknown = self.error_messages["unknown"]
        known = [field.data_key or name for name, field in self.fields.items()]
        for name, messages in error.messages_dict.items():
            if messages == [unknown]:
                messages[0] = unknown + did_you_mean(str(name), known)
