"""Every error a client can see, as a tree, and its one OpenAI shape. Knows nothing of HTTP servers.

PointsmanError
├── RequestError              the client's mistake: 4xx, never retried, never counted against an upstream
│   ├── InvalidRequest        400
│   ├── Unauthenticated       401
│   ├── Forbidden             403
│   ├── ModelNotFound         404
│   ├── PathNotFound          404
│   ├── RecordNotFound        404, nothing of the caller's own has this id
│   ├── FeedbackDisabled      404
│   ├── MethodNotAllowed      405
│   ├── HeadTimeout           408, the request's first lines
│   ├── BodyTimeout           408
│   ├── BodyTooLarge          413
│   ├── UnsupportedMediaType  415
│   ├── RateLimited           429
│   ├── BudgetExhausted       429, the key's money for today is spent
│   └── HeadersTooLarge       431
├── ClientLeft                499, in records only: nobody is left to read it
├── UpstreamError             an expert's server failed: the next candidate may answer
│   ├── UpstreamUnreachable   503; as UpstreamForbidden where no upstream may be at the address
│   ├── UpstreamReset         502
│   ├── UpstreamSaturated     503, our own queue for the expert's servers is full or was too slow
│   ├── UpstreamModelMissing  503, the server does not have the expert's model (LoRA adapter)
│   ├── UpstreamBadResponse   502
│   ├── UpstreamRefused       502, its own authentication or a redirect: another replica would not help
│   ├── UpstreamBroke         502, an error object inside a 200 stream
│   └── UpstreamTimeout       504
├── TooManyConnections        503
├── ClientStalled             the client stopped reading its stream
├── Overloaded                503, the gateway itself takes no more
├── FeedbackBusy, FeedbackUnavailable 503
└── ShuttingDown              503
"""

from __future__ import annotations

from typing import ClassVar

import orjson


class PointsmanError(Exception):
    """An error with an HTTP status and OpenAI's four fields.

    Attributes:
        status: HTTP status code.
        type: OpenAI's coarse error type.
        code: the error's own word: the same in the body, the metric label and the log line.
        param: the request field at fault, as a path like `messages[2].role`.
        headers: extra response headers, lower-case names.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: str = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.headers = headers
        if code is not None:
            self.code = code

    def body(self, *, anthropic: bool = False) -> bytes:
        """Return the JSON body.

        Args:
            anthropic: add the outer `"type": "error"` that clients of `/v1/messages` look for.
        """
        return orjson.dumps(self.payload(anthropic=anthropic))

    def payload(self, *, anthropic: bool = False) -> dict[str, object]:
        """Return the body as an object, see `body`."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"type": "error", "error": error} if anthropic else {"error": error}


class RequestError(PointsmanError):
    """The request cannot be served as it stands; sending it again will not help."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_request"


class InvalidRequest(RequestError):
    """The body or a header is not what the endpoint takes."""


class Unauthenticated(RequestError):
    """No key, or one that is not known."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class Forbidden(RequestError):
    """The key may not use what the request names, or nobody it may use can answer."""

    status = 403
    type = "permission_error"
    code = "expert_forbidden"


class BudgetExhausted(RequestError):
    """The request is expected to cost more than is left of the key's budget."""

    status = 429
    type = "insufficient_quota"
    code = "insufficient_quota"


class ModelNotFound(RequestError):
    """The `model` field names nothing in the catalog."""

    status = 404
    code = "model_not_found"


class PathNotFound(RequestError):
    """No endpoint has this path."""

    status = 404
    code = "not_found"


class RecordNotFound(RequestError):
    """None of the caller's own requests that are remembered has this id; whether somebody else's has, is not said."""

    status = 404
    code = "record_not_found"


class FeedbackDisabled(RequestError):
    """No file for feedback is configured."""

    status = 404
    code = "feedback_disabled"


class RateLimited(RequestError):
    """The key does this too often; `retry-after` says when it may again."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limited"


class MethodNotAllowed(RequestError):
    """The endpoint exists, the method does not."""

    status = 405
    code = "method_not_allowed"


class HeadTimeout(RequestError):
    """A request's head did not arrive in time; there is no request to record."""

    status = 408
    code = "request_timeout"


class BodyTimeout(RequestError):
    """The request body did not arrive in time."""

    status = 408
    code = "request_timeout"


class BodyTooLarge(RequestError):
    """The request body is over `limits.body_bytes`."""

    status = 413
    code = "request_too_large"


class UnsupportedMediaType(RequestError):
    """The body is not declared as JSON."""

    status = 415
    code = "unsupported_media_type"


class HeadersTooLarge(RequestError):
    """Too many request headers, or too long ones."""

    status = 431
    code = "headers_too_large"


class ClientLeft(PointsmanError):
    """The client closed its connection before the answer was complete."""

    status = 499
    code = "client_left"


class ClientStalled(PointsmanError):
    """The client kept its connection but stopped reading for `timeouts.client_write_s`."""

    status = 499
    code = "client_stalled"


class TooManyConnections(PointsmanError):
    """`server.connections` are open, and a request is running on each."""

    status = 503
    code = "too_many_connections"


class ShuttingDown(PointsmanError):
    """The gateway was stopped while this request was running."""

    status = 503
    code = "shutting_down"


class Overloaded(PointsmanError):
    """The gateway has as much to do as it can; `retry-after` says when to try again."""

    status = 503
    code = "overloaded"


class FeedbackBusy(PointsmanError):
    """More ratings wait to be stored than may, or one waited too long."""

    status = 503
    code = "feedback_busy"


class FeedbackUnavailable(PointsmanError):
    """The file for ratings cannot be written."""

    status = 503
    code = "feedback_unavailable"


class UpstreamError(PointsmanError):
    """An expert's server failed. The message never carries its address: that is for administrators.

    Attributes:
        retryable: another candidate may well answer.
    """

    status = 502
    code = "upstream_error"
    retryable: ClassVar[bool] = True


class UpstreamUnreachable(UpstreamError):
    """No connection: refused, no route, no such name, or not in time."""

    status = 503
    code = "upstream_unreachable"


class UpstreamForbidden(UpstreamUnreachable):
    """Its name means an address where no upstream may be: link-local, or in `server.denied_networks`."""

    code = "upstream_forbidden"


class UpstreamSaturated(UpstreamError):
    """As many requests as may are open at the expert's servers, and too many wait or one waited too long."""

    status = 503
    code = "upstream_saturated"


class UpstreamModelMissing(UpstreamError):
    """The server says that it has no model of the expert's served name: an adapter was unloaded, or it restarted."""

    status = 503
    code = "upstream_model_missing"


class UpstreamReset(UpstreamError):
    """The connection ended before the answer was complete."""

    code = "upstream_reset"


class UpstreamBadResponse(UpstreamError):
    """A 200 whose body is not what the endpoint promises."""

    code = "upstream_bad_response"


class UpstreamRefused(UpstreamError):
    """The upstream wants other credentials than ours, or points to another host."""

    code = "upstream_auth"
    retryable = False


class UpstreamBroke(UpstreamError):
    """The engine died: vLLM puts an error object into the 200 stream it has begun."""

    code = "upstream_broke"


class UpstreamTimeout(UpstreamError):
    """No first token, no next token, or no complete answer within its limit."""

    status = 504
    type = "timeout"
    code = "upstream_timeout"
