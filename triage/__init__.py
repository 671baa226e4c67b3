"""triage: from a failed Azure DevOps run to the person who can renew its credential.

receive → store → claim → read → match → link → own → decide → act → record

``intake`` parses what Azure DevOps says and ``jobs`` keeps it; ``worker`` tells the rest in
order: ``logs`` reads the failed steps, ``match`` recognises, ``link`` finds the service
connection, ``owner`` its owner, ``renewal`` the steps, ``plan`` decides, ``publish`` acts and
``record`` remembers. ``azdo`` is the only door to Azure DevOps. ``authoring`` holds the tools of a
rule's author, and ``catalogue`` tells people what each rule is about. ``init`` sets triage up, ``hooks``
subscribes it to events, and ``doctor`` tells what is wrong with a set-up.
"""

__version__ = "0.1.0"
