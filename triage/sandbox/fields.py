"""Played: what a JSON patch does to a work item, and what the rules of its process refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from triage.sandbox.answers import Refusal, bad_patch, invalid
from triage.sandbox.organisation import wire_time
from triage.sandbox.processes import ALLOWED, FIELDS, LONG_TEXT, READ_ONLY, STATES, field_named

if TYPE_CHECKING:
    from triage.sandbox.organisation import Organisation, Project

_TITLE_MAX, _TAG_MAX = 255, 400
_RELATIONS = {
    "ArtifactLink",
    "AttachedFile",
    "Hyperlink",
    "System.LinkTypes.Related",
    "System.LinkTypes.Hierarchy-Forward",
    "System.LinkTypes.Hierarchy-Reverse",
}
_LINK_NAMES = {"Build", "Found in build", "Integrated in build", "Integrated in release environment"}


class Patch:
    """One JSON patch on a copy of one work item; nothing is kept unless all of it is right."""

    def __init__(self, organisation: Organisation, project: Project, item: dict[str, Any]) -> None:
        self.organisation = organisation
        self.project = project
        self.item = item
        self.kind = str(item["fields"]["System.WorkItemType"])
        self.said: list[tuple[str, str]] = []  # new comments: text, format

    def apply(self, patch: list[dict[str, Any]]) -> None:
        """Do every operation in order. Raises Refusal at the first that is not allowed."""
        for change in patch:
            path, operation = str(change["path"]), change["op"]
            start, _, rest = path.removeprefix("/").partition("/")
            if operation != "remove" and "value" not in change:
                raise bad_patch(path)
            if operation == "test":
                self._test(path, change["value"])
            elif operation not in {"add", "replace", "remove"}:
                raise bad_patch(path)
            elif start == "fields" and rest:
                self._field(rest, change.get("value"), operation)
            elif start == "multilineFieldsFormat" and rest:
                self._format(path, rest, change.get("value"))
            elif start == "relations" and rest:
                self._relation(path, rest, change.get("value"), operation)
            else:
                raise bad_patch(path)
        if not self.item["fields"].get("System.Title"):
            raise self._rule("System.Title", "Required, InvalidEmpty")

    def _test(self, path: str, value: Any) -> None:
        if path != "/rev":
            raise bad_patch(path)
        if value != self.item["rev"]:
            raise Refusal(
                412,
                "VS403351: Test Operation for path /rev failed. The work item was changed since it was read.",
                "TestPatchOperationFailedException",
            )

    def _field(self, given: str, value: Any, operation: str) -> None:
        name = field_named(self.project, self.kind, given)
        if name in READ_ONLY:
            raise self._rule(name, "ReadOnly")
        if name == "System.History":
            self._history(value)
        elif operation == "remove" or value is None or value == "":
            self.item["fields"].pop(name, None)
        else:
            self.item["fields"][name] = self._checked(name, value, operation)

    def _checked(self, name: str, value: Any, operation: str) -> Any:
        """Return a field's value as it is kept."""
        if name == "System.AssignedTo":
            return self._person(value)
        if not isinstance(value, str | int | float):
            raise invalid(f"The value of {name} is of a type that the field does not take.")
        if name in {"System.AreaPath", "System.IterationPath"}:
            return self._tree_path(name, str(value))
        if name == "System.Tags":
            return self._tags(str(value), adding=operation == "add")
        if name == "System.Title" and len(str(value)) > _TITLE_MAX:
            raise self._rule(name, "InvalidTooLong")
        if name == "System.State" and value not in self._states():
            raise self._rule(name, "HasValues, LimitedToValues, AllowsOldValue, InvalidNotOldValue")
        if name in ALLOWED and value not in ALLOWED[name]:
            raise self._rule(name, "HasValues, LimitedToValues, AllowsOldValue, InvalidNotOldValue")
        return value

    def _states(self) -> list[str]:
        states = list(STATES[self.project.process][self.kind])
        return states if self.item["id"] else states[:1]  # a new item starts at the beginning

    def _person(self, value: Any) -> dict[str, Any]:
        name = value.get("uniqueName") or value.get("displayName") if isinstance(value, dict) else value
        person = self.organisation.assignable(str(name or ""))
        if person is None:
            raise self._rule(
                "System.AssignedTo", "Required, HasValues, LimitedToValues, AllowsOldValue, InvalidEmpty"
            )
        return person

    def _tree_path(self, name: str, value: str) -> str:
        known = self.project.areas if name == "System.AreaPath" else {self.project.name}
        found = next((each for each in known if each.lower() == value.strip("\\").lower()), None)
        if found is None:
            raise Refusal(
                400,
                f"TF401347: Invalid tree name given for work item {self.item['id'] or -1}, field '{name}'.",
                "WorkItemInvalidTreeNameException",
            )
        return found

    def _tags(self, value: str, *, adding: bool) -> str:
        """Return tags as the service keeps them; `add` keeps the ones there are, `replace` does not."""
        old = str(self.item["fields"].get("System.Tags", "")) if adding else ""
        named = [tag.strip() for tag in (old + ";" + value).replace(",", ";").split(";")]
        kept = {tag.lower(): tag for tag in reversed(named) if tag}
        if any(len(tag) > _TAG_MAX for tag in kept):
            raise invalid(f"TF401407: A tag has {_TAG_MAX} characters at most.")
        return "; ".join(sorted(kept.values(), key=str.lower))

    def _history(self, value: Any) -> None:
        text, form = (value.get("text"), value.get("format")) if isinstance(value, dict) else (value, "html")
        if isinstance(value, dict) and self.organisation.refuse_markdown:
            raise invalid("The value of System.History must be a text.")
        if not isinstance(text, str) or str(form).lower() not in {"markdown", "html"}:
            raise invalid("System.History takes a text, or a text with its format.")
        if text:
            self.said.append((text, str(form).lower()))

    def _format(self, path: str, given: str, value: Any) -> None:
        if self.organisation.refuse_markdown:  # Azure DevOps Server does not know the path
            raise bad_patch(path)
        name = field_named(self.project, self.kind, given)
        if name not in LONG_TEXT or str(value).lower() not in {"markdown", "html"}:
            raise invalid(f"{value!r} is no format for {path}.")
        if self.item["multilineFieldsFormat"].get(name) == "markdown" and str(value).lower() == "html":
            raise invalid(f"{path}: a Markdown field cannot become HTML again.")
        self.item["multilineFieldsFormat"][name] = str(value).lower()

    def _relation(self, path: str, rest: str, value: Any, operation: str) -> None:
        relations: list[dict[str, Any]] = self.item["relations"]
        if rest == "-" and operation == "add":
            relations.append(self._new_relation(value))
        elif rest.isdecimal() and int(rest) < len(relations) and operation == "remove":
            del relations[int(rest)]
        else:
            raise bad_patch(path)

    def _new_relation(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict) or not value.get("rel") or not value.get("url"):
            raise bad_patch("/relations/-")
        kind, url, attributes = value["rel"], str(value["url"]), value.get("attributes") or {}
        if kind not in _RELATIONS:
            raise invalid(f"VS402314: The relation type {kind} does not exist.")
        if kind == "ArtifactLink" and (
            not url.startswith("vstfs:///") or attributes.get("name") not in _LINK_NAMES
        ):
            raise invalid(f"The artifact link {url} needs a vstfs address and the name of a link type.")
        if kind == "Hyperlink" and "://" not in url:
            raise invalid(f"The hyperlink {url} is no address.")
        if any((each["rel"], each["url"].lower()) == (kind, url.lower()) for each in self.item["relations"]):
            raise Refusal(400, f"Relation already exists: {kind} {url}.", "RelationAlreadyExistsException")
        now = wire_time()
        own = {"authorizedDate": now, "id": self.organisation.next_id(), "resourceCreatedDate": now}
        return {"rel": kind, "url": url, "attributes": {**own, **attributes}}

    def _rule(self, field: str, code: str) -> Refusal:
        name = FIELDS[self.project.process][self.kind][field]
        return Refusal(
            400,
            f"TF401320: Rule Error for field {name}. Error code: {code}.",
            "RuleValidationException",
            code=600171,
        )
