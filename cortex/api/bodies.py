"""What all answers and all requests have in common."""

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """Something read from a row."""

    model_config = ConfigDict(from_attributes=True, frozen=True)


class Body(BaseModel):
    """Something that was sent: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")
