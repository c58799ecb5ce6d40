"""Templates in Home Assistant's language (Jinja) that take one value out of a document.

A document may lack the key: a board with several streams tells one of them at a time. The entity
then has to stay as it is, and nothing may be logged. Home Assistant ignores an empty rendering for
numbers, for what is true or false, and for events; a text it would set to nothing, so that a text
gets its own state again. It logs a warning whenever something undefined is printed or asked
whether it is true, and an error when it is looked into; so no template does that, not even when
the topic was cleared and there is no document at all. And as `document['items']` is a method where
the document has no such key, values are taken with `get`.
"""

from collections.abc import Sequence
from typing import Final

MAX_STATE: Final = 255
"""Longest state in Home Assistant, in characters."""

_DOCUMENT = "(value_json|default({}))"


def number(key: str) -> str:
    """Take a number, or a truth, which is printed as True or False."""
    return f"{{{{ {_DOCUMENT}.get('{key}','') }}}}"


def megabytes(key: str) -> str:
    """Take a number of bytes."""
    return (
        f"{{% set v = {_DOCUMENT}.get('{key}') %}}"
        "{{ (v / 1000000)|round(1) if v is number else '' }}"
    )


def text(key: str) -> str:
    """Take a text or a moment."""
    return (
        f"{{% set v = {_DOCUMENT} %}}{{{{ (v['{key}']~'')[:{MAX_STATE}] if '{key}' in v "
        "else this.state if has_value(this.entity_id) else none }}"
    )


def text_or_unknown(key: str) -> str:
    """Take a text or a moment of a document that has all there is: what it lacks is unknown."""
    return f"{{{{ ({_DOCUMENT}.get('{key}',none)~'')[:{MAX_STATE}] }}}}"


def inner(outer: str, key: str) -> str:
    """Take a number out of an object in the document."""
    return f"{{{{ {_DOCUMENT}.get('{outer}',{{}}).get('{key}','') }}}}"


def inner_or_unknown(outer: str, key: str) -> str:
    """Take a text or a moment out of an object in the document."""
    return f"{{{{ {_DOCUMENT}.get('{outer}',{{}}).get('{key}',none) }}}}"


def chosen(keys: Sequence[str]) -> str:
    """Take some keys of the document as an object, those that are there; nothing of no document."""
    known = ",".join(f"'{each}'" for each in keys)
    return (
        f"{{% set v = dict({_DOCUMENT}.items()|selectattr(0,'in',[{known}])) %}}"
        "{% if v %}{{ v|tojson }}{% endif %}"
    )


def has_text(key: str) -> str:
    """Tell whether the document has a text there that is not empty."""
    return f"{{{{ {_DOCUMENT}.get('{key}','') != '' }}}}"


def event(key: str, types: Sequence[str], other: str) -> str:
    """Make an event of a text, once for each sample: a document may be published again.

    What is not among `types` is told as `other`, as events that were not announced are refused.
    """
    known = ",".join(f"'{each}'" for each in types)
    return (
        f"{{% set v = {_DOCUMENT} %}}{{% set e = v.get('{key}','') %}}"
        "{% if e and v.get('id') != this.attributes.get('id') %}"
        f"{{{{ {{'event_type': e if e in [{known}] else '{other}', 'said': e, 'id': v.get('id')}}"
        "|tojson }}{% endif %}"
    )


def status() -> str:
    """Take the gateway's state: online or offline."""
    return number("state")


def light_state(on: str, off: str) -> str:
    """Tell whether a brightness in plain text is on; None, which is unknown, for an empty one."""
    return f"{{{{ none if value == '' else '{on}' if value|float(0) > 0 else '{off}' }}}}"
