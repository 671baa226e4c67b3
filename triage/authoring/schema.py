"""JSON Schemas of rules and recipes: what editors complete, explain and check while one writes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from triage.match.rule import Rule
from triage.renewal import RecipeFile

if TYPE_CHECKING:
    from pydantic import BaseModel

RULE_FILE = "rule.schema.json"
RECIPE_FILE = "renewal/renewal.schema.json"
FILES: dict[str, type[BaseModel]] = {RULE_FILE: Rule, RECIPE_FILE: RecipeFile}  # by their place in rules/
# Taplo, which reads TOML in editors, knows JSON Schema up to draft 4; nothing newer is needed here.
_DRAFT = "http://json-schema.org/draft-04/schema#"
_DEFINITIONS = "#/$defs/"
# What the keys of a recipe mean. Those of a rule say it themselves (match/rule.py).
_RECIPE_KEYS = {
    "id": "the file's name without .toml",
    "title": "what to do, in one line; placeholders such as {connection_name} are filled in",
    "applies": "when it fits: one case, whose every condition must hold, or several of which one must fit",
    "applies.types": "types of the connection: azurerm, dockerregistry, …; unknown when none is decided",
    "applies.schemes": "authorization schemes of the connection: serviceprincipal, token, …",
    "applies.authentication": "how a service principal signs in: spnkey or spncertificate",
    "applies.creation": "who made the service principal: automatic or manual",
    "applies.modes": "how a Kubernetes connection was made: kubeconfig, serviceaccount, azuresubscription",
    "applies.hosts": "hosts that the connection leads to, or domains above them",
    "applies.credentials": "families of credentials, as rules name them",
    "applies.verdicts": "verdicts of the rule",
    "applies.advice": "what the rule's `advice` asks for",
    "applies.tasks": "tasks whose step failed, with their major version: AzureCLI@2",
    "applies.priority": "the highest wins among the recipes that fit, then the most conditions",
    "renewal": "what a person does",
    "renewal.steps": "the steps in their order; Markdown with placeholders",
    "renewal.command_line": "the same with commands, or one sentence that says why there are none",
    "renewal.warnings": "what goes wrong easily; Markdown with placeholders",
    "renewal.permissions": "the rights that the steps need",
    "renewal.verify": "how to see that it worked",
    "renewal.meanwhile": "what breaks until it is renewed, and by renewing it",
    "renewal.interval": "how long the new credential lasts",
    "renewal.no_alternative": "why it has to be renewed for ever, where there is no alternative",
    "alternatives": "other ways, best those that never have to be renewed again",
    "alternatives.title": "the other way in one line",
    "alternatives.steps": "its steps in their order; Markdown with placeholders",
    "alternatives.federates": "whether it makes this connection a federated one; not every task can use that",
    "alternatives.effort": (
        "where it ends the renewals: what it takes, the beginning of a sentence that goes on 'and ends it'; "
        "a credential that expires again is told of it first"
    ),
    "meta": "where the advice comes from",
    "meta.references": "pages that say so",
}


def text(model: type[BaseModel]) -> str:
    """Return the schema of a rule or a recipe as its file holds it."""
    made = model.model_json_schema()
    definitions = made.pop("$defs", {})
    plain = _inlined(made, definitions)
    if model is RecipeFile:
        _describe(plain, "")
    plain = {"$schema": _DRAFT, "title": f"A {'rule' if model is Rule else 'recipe'} of triage", **plain}
    return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"


def _inlined(node: Any, definitions: dict[str, Any]) -> Any:
    """Write each definition where it is used, without the titles that only repeat a key's name."""
    if isinstance(node, list):
        return [_inlined(each, definitions) for each in node]
    if not isinstance(node, dict):
        return node
    if reference := node.get("$ref"):
        said = {key: value for key, value in node.items() if key != "$ref"}
        node = {**definitions[reference.removeprefix(_DEFINITIONS)], **said}
    return {
        key: {name: _inlined(each, definitions) for name, each in value.items()}
        if key == "properties"
        else _inlined(value, definitions)
        for key, value in node.items()
        if key != "title"
    }


def _describe(node: dict[str, Any], path: str) -> None:
    """Say what each key of a recipe means."""
    for key, each in node.get("properties", {}).items():
        if said := _RECIPE_KEYS.get(path + key):
            each["description"] = said
        for shape in each.get("anyOf", [each]):
            _describe(shape.get("items", shape), f"{path}{key}.")
