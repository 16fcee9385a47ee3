"""Errors of a server that does not answer as expected; no message holds a key."""

from typing import Any

from pipelines.core.errors import ServerError
from pipelines.core.messages import Message
from pipelines.core.remote import Remote

#: Most characters of a server's message in an error text.
_QUOTED = 160


class RefusedByServer(ServerError):
    """The server refuses this request; it may accept another one."""


#: Errors of every server; `failure` fills them in.
UNREACHABLE = (
    "The server of {server} cannot be reached. Try again later, or choose another model; the "
    "operator of SeeSay can check the address that --remote gives, and the server."
)
TOO_MANY = (
    "{count} other visitors are waiting for answers of servers such as {server}. Try "
    "again in a moment, or choose a model of this machine."
)
SILENT = (
    "The server of {server} said nothing for {seconds:g} s. Try again later, or choose "
    "another model."
)
TOO_LONG = (
    "The server of {server} did not end its answer within {minutes:.0f} minutes. Ask for "
    "a shorter one, or choose another model."
)
BROKEN_OFF = "The connection to {server} broke off before the answer was whole. Ask again."
NO_COMPLETION = (
    "What {server} answered is no chat completion. Choose another model; the operator of "
    "SeeSay can check that --remote gives the address of an OpenAI-compatible server."
)

#: Errors of one request.
EMPTY = (
    "The server of {server} gave an answer without text: it may refuse such content. Ask "
    "in other words, or choose another model."
)
FAILED = "The server of {server} failed while it answered.{words}"

_REDIRECTED = (
    "The server of {server} redirects requests to another address, where no picture and "
    "no key is sent. Choose another model; the operator of SeeSay gives --remote the "
    "final address."
)
_NO_MODEL = (
    "The server of {server} has no such model or no chat completions.{words} Choose "
    "another model; the operator of SeeSay can check the address and the model's name."
)
_TOO_LARGE = (
    "The server of {server} takes no request as large as this one. Send a smaller "
    "picture, or fewer frames."
)
_NOT_WELL = (
    "The server of {server} is not well (status {status}). Try again later, or choose "
    "another model."
)
_REFUSED = (
    "The server of {server} refused this request (status {status}).{words} Change the "
    "request, or choose another model."
)


def failure(remote: Remote, template: str, **values: Any) -> ServerError:
    """Return the error of a template, which concerns this request only if it is one of those."""
    error = RefusedByServer if template in {EMPTY, FAILED, _TOO_LARGE, _REFUSED} else ServerError
    return error(template, server=remote.shown, **values)


def of_status(remote: Remote, status: int, said: str, wait_s: float = 0.0) -> ServerError:
    """Return the error of a response with another status than 200, of which the server `said` why.

    `wait_s` are the seconds that the server asks to wait, 0.0 for none.
    """
    if status in {401, 403}:
        problem = "does not take the key that was given" if remote.key else "asks for a key"
        return failure(
            remote,
            "The server of {server} {problem}. Choose another model; the operator of SeeSay sets "
            "the key as {variable} or SEESAY_REMOTE_KEY.",
            problem=Message(problem),
            variable=remote.key_variable,
        )
    if status == 429:
        later = Message("in {seconds:.0f} s", seconds=wait_s) if wait_s else Message("later")
        template = "The server of {server} takes no more requests for now. Try again {later}."
        return failure(remote, template, later=later)
    if 300 <= status < 400:
        template = _REDIRECTED
    elif status > 500:
        template = _NOT_WELL
    else:
        template = {404: _NO_MODEL, 413: _TOO_LARGE}.get(status, _REFUSED)
    return failure(remote, template, status=status, words=quoted(remote, said))


def quoted(remote: Remote, said: str) -> str:
    """Return a server's message as the end of an error text, without the key; "" for none."""
    if remote.key:
        said = said.replace(remote.key, "…")
    plain = " ".join("".join(c if c.isprintable() else " " for c in said).split())
    if not plain:
        return ""
    more = "…" if len(plain) > _QUOTED else ""
    return Message(" It said: “{words}”.", words=plain[:_QUOTED] + more)
