"""Choose the renewal steps that fit a connection, and fill in its names and links. Pure."""

from triage.renewal.book import RecipeBook, check, load
from triage.renewal.fitting import ahead, as_json, choose
from triage.renewal.recipe import Applies, RecipeFile

__all__ = ["Applies", "RecipeBook", "RecipeFile", "ahead", "as_json", "check", "choose", "load"]
