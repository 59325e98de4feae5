"""The parts of RunComfy's website that command lines use: signing in, the user, the balance.

The paths are documented; the bodies follow the device authorization grant (RFC 8628). Whoever asks
for a code is taken to confirm it: the second poll is answered with the token.
"""

import json
import secrets

import attrs
from starlette.requests import Request
from starlette.responses import Response

from comfyloom_emulator.options import Options
from comfyloom_emulator.server.replies import json_reply
from comfyloom_emulator.server.routing import NoRoute, Route, Router

EMAIL = "artist@emulator.example"
_PENDING_POLLS = 1


@attrs.define
class Website:
    """Answers requests to the website."""

    options: Options
    base_url: str
    _polls: dict[str, int] = attrs.field(factory=dict[str, int], init=False)

    def knows(self, request: Request) -> bool:
        """Return whether a path is one of the website's."""
        return not isinstance(_ROUTER.find(request, request.scope["path"]), NoRoute)

    async def handle(self, request: Request) -> Response:
        """Return the response to a request."""
        handler = _ROUTER.find(request, request.scope["path"])
        assert not isinstance(handler, NoRoute)
        return await handler(self, request)

    async def start(self, _request: Request) -> Response:
        """POST cli-auth/start."""
        device_code = secrets.token_urlsafe(16)
        self._polls[device_code] = 0
        url = f"{self.base_url}/cli-auth"
        codes = {"device_code": device_code, "user_code": "ABCD-1234"}
        return json_reply({**codes, "verification_uri": url, "expires_in": 600, "interval": 2})

    async def poll(self, request: Request) -> Response:
        """POST cli-auth/poll."""
        try:
            code = str(json.loads(await request.body())["device_code"])
            polls = self._polls[code]
        except (ValueError, KeyError, TypeError):
            return json_reply({"error": "invalid_grant"}, 400)
        self._polls[code] = polls + 1
        if polls < _PENDING_POLLS:
            return json_reply({"error": "authorization_pending"}, 400)
        return json_reply({"access_token": self.options.token, "user_email": EMAIL})

    async def me(self, request: Request) -> Response:
        """GET auth/me."""
        if not self._is_signed_in(request):
            return json_reply({"message": "Unauthorized"}, 401)
        return json_reply({"id": self.options.user_id, "email": EMAIL, "token_type": "cli"})

    async def balance(self, request: Request) -> Response:
        """GET balance."""
        if not self._is_signed_in(request):
            return json_reply({"message": "Unauthorized"}, 401)
        return json_reply({"balance_usd": 25.5, "currency": "USD"})

    def _is_signed_in(self, request: Request) -> bool:
        return request.headers.get("Authorization") == f"Bearer {self.options.token}"


_ROUTER: Router[Website] = Router(
    [
        Route("POST", "/api/cli-auth/start", Website.start),
        Route("POST", "/api/cli-auth/poll", Website.poll),
        Route("GET", "/api/auth/me", Website.me),
        Route("GET", "/prod/v2/balance", Website.balance),
    ]
)
