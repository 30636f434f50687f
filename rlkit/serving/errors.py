"""Errors as the OpenAI API writes them."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from rlkit.serving.requests import NEUTRAL_ONLY
from rlkit.serving.responses import ErrorBody, ErrorResponse

MAX_SHOWN = 80
"""Characters of a client's own key that an error repeats."""


class APIError(Exception):
    """What a client is told: an HTTP status and the fields of OpenAI's error object."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.body = ErrorResponse(
            error=ErrorBody(message=message, type=_TYPES.get(status, _kind(status)), param=param, code=code)
        )


_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


def _kind(status: int) -> str:
    return "invalid_request_error" if status < 500 else "server_error"


def refused(message: str, *, param: str | None = None, code: str | None = None) -> APIError:
    """A request that cannot be answered as it is: status 400."""
    return APIError(400, message, param=param, code=code)


def from_validation(error: ValidationError) -> APIError:
    """One fault of a body: which parameter, and what it should be."""
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    top = faults[0]["loc"][:1]
    # Each member of a union has a first fault; the one that lies deepest, or furthest on, is of the member that was meant.
    first_faults = {_labels(fault["loc"]): fault for fault in reversed(faults) if fault["loc"][:1] == top}
    fault = max(reversed(first_faults.values()), key=lambda fault: _place(fault["loc"]))
    if fault["type"] == "json_invalid":
        return refused(f"the body is not valid JSON: {fault['msg'].partition(': ')[2]}", code="invalid_json")
    param = _name(fault["loc"])
    if fault["type"] == "extra_forbidden":
        param = ".".join(filter(None, [_name(fault["loc"][:-1]), str(fault["loc"][-1])[:MAX_SHOWN]]))
        return refused(f"unknown or unsupported parameter '{param}'", param=param, code="unknown_parameter")
    if top and top[0] in NEUTRAL_ONLY:
        name = str(top[0])
        message = f"'{name}' is not supported by this server; leave it out ({NEUTRAL_ONLY[name]} is accepted)"
        return refused(message, param=name, code="unsupported_parameter")
    reasons = dict.fromkeys(_reason(other["msg"]) for other in faults if _name(other["loc"]) == param)
    code = "missing_required_parameter" if fault["type"] == "missing" else "invalid_value"
    message = "; or: ".join(reasons)
    return refused(f"{param}: {message}" if param else message, param=param or None, code=code)


def _reason(message: str) -> str:
    return message.removeprefix("Value error, ")


def _labels(location: tuple[int | str, ...]) -> tuple[str, ...]:
    """What pydantic calls the members of unions on the way."""
    return tuple(part for part in location if isinstance(part, str) and not _is_key(part))


def _place(location: tuple[int | str, ...]) -> tuple[int, list[int]]:
    """How deep a fault lies, and at which indices."""
    depth = sum(isinstance(part, int) or _is_key(part) for part in location)
    return depth, [part for part in location if isinstance(part, int)]


def _name(location: tuple[int | str, ...]) -> str:
    """`messages[0].role`; the labels that pydantic adds for the members of a union are left out."""
    name = ""
    for part in location:
        if isinstance(part, int):
            name += f"[{part}]"
        elif _is_key(part):
            name += f".{part}" if name else part
    return name


def _is_key(part: str) -> bool:
    return part.isidentifier() and part.islower() and part not in ("str", "int")
