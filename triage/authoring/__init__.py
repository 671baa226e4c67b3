"""The tools of a rule's author: a first draft, the story of one rule on a log, the schema for editors."""
