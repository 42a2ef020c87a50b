"""What the marshmallow schemas share."""

from typing import Any

from marshmallow import Schema, ValidationError

from analytics.suggestion import did_you_mean


class StrictSchema(Schema):
    """A schema that rejects unknown names, and suggests the closest known name."""

    def handle_error(self, error: ValidationError, data: Any, *, many: bool, **kwargs: Any) -> None:
        unknown = self.error_messages["unknown"]
        known = [field.data_key or name for name, field in self.fields.items()]
        for name, messages in error.messages_dict.items():
            if messages == [unknown]:
                messages[0] = unknown + did_you_mean(str(name), known)
