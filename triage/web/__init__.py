"""What people and Azure DevOps reach over HTTP: the hook, the pages, the JSON API."""

from triage.web.app import create_app

__all__ = ["create_app"]
