"""What is said when a server does not answer as it should; no message holds a key. Torch-free."""

from pipelines.core.errors import ServerError
from pipelines.core.remote import Remote

#: Characters of a server's own words that are repeated.
_QUOTED = 160


class RefusedByServer(ServerError):
    """The server refuses this request; it may take another one."""


def unreachable(remote: Remote) -> ServerError:
    """Return the error of a server that takes no connection."""
    return ServerError(
        f"The server of {remote.shown} cannot be reached. Try again later, or choose another "
        "model; whoever runs SeeSay can check the address that --remote gives, and the server."
    )


def too_many(remote: Remote, number: int) -> ServerError:
    """Return the error of a visitor who comes while servers answer many others."""
    return ServerError(
        f"{number} other visitors are waiting for answers of servers such as {remote.shown}. Try "
        "again in a moment, or choose a model of this machine."
    )


def empty(remote: Remote) -> ServerError:
    """Return the error of an answer without text."""
    return RefusedByServer(
        f"The server of {remote.shown} gave an answer without text: it may refuse such content. "
        "Ask in other words, or choose another model."
    )


def silent(remote: Remote) -> ServerError:
    """Return the error of a server that says nothing any more."""
    return ServerError(
        f"The server of {remote.shown} said nothing for {remote.timeout_s:g} s. Try again later, "
        "or choose another model."
    )


def too_long(remote: Remote, limit_s: float) -> ServerError:
    """Return the error of an answer that does not come to its end."""
    return ServerError(
        f"The server of {remote.shown} did not end its answer within {limit_s / 60:.0f} minutes. "
        "Ask for a shorter one, or choose another model."
    )


def broken_off(remote: Remote) -> ServerError:
    """Return the error of a connection that ended before the answer did."""
    return ServerError(
        f"The connection to {remote.shown} broke off before the answer was whole. Ask again."
    )


def no_completion(remote: Remote) -> ServerError:
    """Return the error of a server that speaks another language."""
    return ServerError(
        f"What {remote.shown} answered is no chat completion. Choose another model; whoever runs "
        "SeeSay can check that --remote gives the address of an OpenAI-compatible server."
    )


def failed(remote: Remote, said: str) -> ServerError:
    """Return the error of a server that says in mid-answer that it failed."""
    return RefusedByServer(
        f"The server of {remote.shown} failed while it answered.{quoted(remote, said)}"
    )


def of_status(remote: Remote, status: int, said: str, wait_s: float = 0.0) -> ServerError:
    """Return the error of an answer with a status that is not 200.

    Args:
        remote: who answered.
        status: of HTTP.
        said: the server's own words, or "".
        wait_s: for how long it asks to be left alone; 0.0 where it does not.
    """
    if status in {401, 403}:
        variable = f"{remote.key_variable} or SEESAY_REMOTE_KEY"
        known = "does not take the key that was given" if remote.key else "asks for a key"
        return ServerError(
            f"The server of {remote.shown} {known}. Choose another model; whoever runs SeeSay "
            f"sets the key as {variable}."
        )
    if 300 <= status < 400:
        return ServerError(
            f"The server of {remote.shown} sends requests on to another address, where no picture "
            "and no key is sent. Choose another model; whoever runs SeeSay gives --remote the "
            "final address."
        )
    if status == 404:
        return ServerError(
            f"The server of {remote.shown} has no such model or no chat completions."
            f"{quoted(remote, said)} Choose another model; whoever runs SeeSay can check the "
            "address and the model's name."
        )
    if status == 429:
        later = f"in {wait_s:.0f} s" if wait_s else "later"
        return ServerError(
            f"The server of {remote.shown} takes no more requests for now. Try again {later}."
        )
    if status == 413:
        return RefusedByServer(
            f"The server of {remote.shown} takes no request as large as this one. Send a smaller "
            "picture, or fewer frames."
        )
    if status >= 500 and status != 500:
        return ServerError(
            f"The server of {remote.shown} is not well (status {status}). Try again later, or "
            "choose another model."
        )
    return RefusedByServer(
        f"The server of {remote.shown} refused this request (status {status})."
        f"{quoted(remote, said)} Change the request, or choose another model."
    )


def quoted(remote: Remote, said: str) -> str:
    """Return a server's own words as the end of a message, without the key; "" for none."""
    if remote.key:
        said = said.replace(remote.key, "…")
    plain = " ".join("".join(c if c.isprintable() else " " for c in said).split())
    if not plain:
        return ""
    more = "…" if len(plain) > _QUOTED else ""
    return f" It said: “{plain[:_QUOTED]}{more}”."
