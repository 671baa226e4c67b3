"""Condense the table of task inputs that name a service connection into triage/task_inputs.json.

python tests/bench/condense_task_inputs.py <task_endpoint_inputs.json> > triage/task_inputs.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def condense(table: dict[str, Any]) -> dict[str, Any]:
    """Return task GUID → name and, for each major version ("*": any), its inputs."""
    tasks: dict[str, Any] = {}
    for task in table["tasks"]:
        for version in task["versions"]:
            known = tasks.setdefault(version["id"].lower(), {"name": task["task"], "majors": {}})
            major = str(version["major"]) if version["major"] is not None else "*"
            inputs = known["majors"].setdefault(major, [])
            for each in version["inputs"]:
                kind, _, schemes = (each["endpointType"] or "").partition(":")
                entry = {
                    "names": sorted({n.lower() for n in [each["name"], *each["aliases"]]}),
                    "type": kind.lower(),
                    "multi": bool(each["multiSelect"]),
                }
                if each["visibleRule"]:
                    entry["visible"] = each["visibleRule"]
                if schemes:
                    entry["schemes"] = schemes.lower().split(",")
                if entry not in inputs:
                    inputs.append(entry)
            wif = version["workloadIdentityFederation"]["docs"]
            if wif:
                known.setdefault("federation", {})[major] = wif
    return dict(sorted(tasks.items()))


if __name__ == "__main__":
    source = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    lines = [f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in condense(source).items()]
    sys.stdout.write("{\n" + ",\n".join(lines) + "\n}\n")
