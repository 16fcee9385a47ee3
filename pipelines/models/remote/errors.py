"""Errors of a server that does not answer as expected; no message holds a key."""

from pipelines.core.errors import ServerError
from pipelines.core.messages import Message
from pipelines.core.remote import Remote

#: Most characters of a server's message in an error text.
_QUOTED = 160


class RefusedByServer(ServerError):
    """The server refuses this request; it may accept another one."""


def unreachable(remote: Remote) -> ServerError:
    """Return the error of a server without a connection."""
    return ServerError(
        "The server of {server} cannot be reached. Try again later, or choose another model; the "
        "operator of SeeSay can check the address that --remote gives, and the server.",
        server=remote.shown,
    )


def too_many(remote: Remote, number: int) -> ServerError:
    """Return the error of a visitor beyond the limit of those who wait for servers."""
    return ServerError(
        "{count} other visitors are waiting for answers of servers such as {server}. Try "
        "again in a moment, or choose a model of this machine.",
        count=number,
        server=remote.shown,
    )


def empty(remote: Remote) -> ServerError:
    """Return the error of an answer without text."""
    return RefusedByServer(
        "The server of {server} gave an answer without text: it may refuse such content. Ask "
        "in other words, or choose another model.",
        server=remote.shown,
    )


def silent(remote: Remote) -> ServerError:
    """Return the error of a server that stopped sending."""
    return ServerError(
        "The server of {server} said nothing for {seconds:g} s. Try again later, or choose "
        "another model.",
        server=remote.shown,
        seconds=remote.timeout_s,
    )


def too_long(remote: Remote, limit_s: float) -> ServerError:
    """Return the error of an answer that takes too long."""
    return ServerError(
        "The server of {server} did not end its answer within {minutes:.0f} minutes. Ask for "
        "a shorter one, or choose another model.",
        server=remote.shown,
        minutes=limit_s / 60,
    )


def broken_off(remote: Remote) -> ServerError:
    """Return the error of a connection that broke before the end of the answer."""
    return ServerError(
        "The connection to {server} broke off before the answer was whole. Ask again.",
        server=remote.shown,
    )


def no_completion(remote: Remote) -> ServerError:
    """Return the error of a response that is not a chat completion."""
    return ServerError(
        "What {server} answered is no chat completion. Choose another model; the operator of "
        "SeeSay can check that --remote gives the address of an OpenAI-compatible server.",
        server=remote.shown,
    )


def failed(remote: Remote, said: str) -> ServerError:
    """Return the error of a failure that the server reports in mid-answer."""
    return RefusedByServer(
        "The server of {server} failed while it answered.{words}",
        server=remote.shown,
        words=quoted(remote, said),
    )


def of_status(remote: Remote, status: int, said: str, wait_s: float = 0.0) -> ServerError:
    """Return the error of a response with another status than 200.

    Args:
        remote: the server.
        status: of HTTP.
        said: the server's message, or "".
        wait_s: seconds that the server asks to wait; 0.0 for none.
    """
    if status in {401, 403}:
        problem = "does not take the key that was given" if remote.key else "asks for a key"
        return ServerError(
            "The server of {server} {problem}. Choose another model; the operator of SeeSay sets "
            "the key as {variable} or SEESAY_REMOTE_KEY.",
            server=remote.shown,
            problem=Message(problem),
            variable=remote.key_variable,
        )
    if 300 <= status < 400:
        return ServerError(
            "The server of {server} redirects requests to another address, where no picture and "
            "no key is sent. Choose another model; the operator of SeeSay gives --remote the "
            "final address.",
            server=remote.shown,
        )
    if status == 404:
        return ServerError(
            "The server of {server} has no such model or no chat completions.{words} Choose "
            "another model; the operator of SeeSay can check the address and the model's name.",
            server=remote.shown,
            words=quoted(remote, said),
        )
    if status == 429:
        later = Message("in {seconds:.0f} s", seconds=wait_s) if wait_s else Message("later")
        return ServerError(
            "The server of {server} takes no more requests for now. Try again {later}.",
            server=remote.shown,
            later=later,
        )
    if status == 413:
        return RefusedByServer(
            "The server of {server} takes no request as large as this one. Send a smaller "
            "picture, or fewer frames.",
            server=remote.shown,
        )
    if status >= 500 and status != 500:
        return ServerError(
            "The server of {server} is not well (status {status}). Try again later, or choose "
            "another model.",
            server=remote.shown,
            status=status,
        )
    return RefusedByServer(
        "The server of {server} refused this request (status {status}).{words} Change the "
        "request, or choose another model.",
        server=remote.shown,
        status=status,
        words=quoted(remote, said),
    )


def quoted(remote: Remote, said: str) -> str:
    """Return a server's message as the end of an error text, without the key; "" for none."""
    if remote.key:
        said = said.replace(remote.key, "…")
    plain = " ".join("".join(c if c.isprintable() else " " for c in said).split())
    if not plain:
        return ""
    more = "…" if len(plain) > _QUOTED else ""
    return Message(" It said: “{words}”.", words=plain[:_QUOTED] + more)
