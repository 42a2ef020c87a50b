"""Words for people: numbers with their nouns, and names of others that are safe in a terminal. Pure."""


def counted(number: int, noun: str) -> str:
    """Return the number and the noun: "1 event", "1,200 events"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def printable(name: str) -> str:
    """Return a site id, or a name, that is safe to print in a terminal. Any client can choose a site id."""
    return "".join(x if x.isprintable() else repr(x)[1:-1] for x in name) or "(no site)"
