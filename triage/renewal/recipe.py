"""A recipe as its file says it: when it fits, what a person does, and what else there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

if TYPE_CHECKING:
    from collections.abc import Iterator


class Applies(BaseModel):
    """When a recipe fits; every key that is given must."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    types: list[str] = Field(default_factory=list)
    schemes: list[str] = Field(default_factory=list)
    authentication: list[str] = Field(default_factory=list)
    creation: list[str] = Field(default_factory=list)
    modes: list[str] = Field(default_factory=list)
    hosts: list[str] = Field(default_factory=list)
    credentials: list[str] = Field(default_factory=list)
    verdicts: list[str] = Field(default_factory=list)
    advice: list[str] = Field(default_factory=list)
    tasks: list[str] = Field(default_factory=list)
    priority: int = 0

    @property
    def unconditional(self) -> bool:
        """Return whether it fits whatever failed."""
        return not any(value for name, value in self if name != "priority")

    @property
    def renews(self) -> bool:
        """Return whether it is about a credential, not about setting up or about a look-alike."""
        return not self.advice and self.verdicts != ["look-alike"]


class Steps(BaseModel):
    """What a person does. Every text is Markdown with placeholders."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    steps: list[str] = Field(min_length=1)
    command_line: list[str] = Field(default_factory=list)  # the same with commands, or why there is none
    warnings: list[str] = Field(default_factory=list)
    permissions: list[str] = Field(default_factory=list)
    verify: str = ""
    meanwhile: str = ""  # what breaks until it is renewed, and by renewing it
    interval: str = ""
    no_alternative: str = ""  # why it has to be renewed for ever, where no alternative exists


class Alternative(BaseModel):
    """Another way, usually one that never has to be renewed again."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    title: str
    steps: list[str] = Field(min_length=1)
    federates: bool = False  # makes this connection a federated one, which not every task can use
    effort: str = ""  # what it takes to end the renewals, the beginning of a sentence; for repeats


class Meta(BaseModel):
    """Where the advice comes from."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    references: list[str] = Field(min_length=1)


class RecipeFile(BaseModel):
    """One file of rules/renewal/."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str
    title: str
    applies: list[Applies] = Field(default_factory=lambda: [Applies()], min_length=1)  # any of them
    renewal: Steps
    alternatives: list[Alternative] = Field(default_factory=list)
    meta: Meta

    @field_validator("applies", mode="before", json_schema_input_type=Applies | list[Applies])
    @classmethod
    def _one_or_many(cls, given: Any) -> Any:
        return [given] if isinstance(given, dict) else given

    @property
    def renews(self) -> bool:
        """Return whether it renews a credential in at least one case."""
        return any(each.renews for each in self.applies)

    def texts(self) -> Iterator[tuple[str, str]]:
        """Yield every text that people read, each with its key."""
        yield "title", self.title
        for name, value in self.renewal:
            for text in value if isinstance(value, list) else [value]:
                yield f"renewal.{name}", text
        for each in self.alternatives:
            yield "alternatives.title", each.title
            yield "alternatives.effort", each.effort
            for text in each.steps:
                yield "alternatives.steps", text
