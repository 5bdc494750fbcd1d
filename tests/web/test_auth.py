"""Who may do what, asked of the authoriser alone and of a real server in front of it."""

import asyncio
import base64
import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import bcrypt
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st

from exporter.web.toolkit.auth import (
    ALL_RIGHTS,
    MAX_WAITING_PASSWORDS,
    Authoriser,
    Decision,
    Right,
    Token,
    is_bcrypt_hash,
    is_bearer_token,
    right_for,
)

PUSHER = b"pusher-secret"
OPERATOR = b"operator-secret"
TOKENS = [Token(PUSHER, frozenset({Right.PUSH}), "app"), Token(OPERATOR, ALL_RIGHTS, "ops")]
PASSWORD = "correct horse"


def hashed(password: str, prefix: bytes = b"2b") -> bytes:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4, prefix=prefix.replace(b"y", b"b")))


def basic(name: str, password: str) -> bytes:
    return b"Basic " + base64.b64encode(f"{name}:{password}".encode())


def bearer(secret: bytes) -> bytes:
    return b"Bearer " + secret


def decide(authoriser: Authoriser, header: bytes | None, right: Right = Right.READ) -> Decision:
    """What the server does with one request."""

    async def run() -> Decision:
        decision = authoriser.allowed(header, right)
        if decision is Decision.UNVERIFIED and header is not None:
            decision = await authoriser.verify(header, right)
        return decision

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("method", "path", "right"),
    [
        ("POST", "/v1/usage", Right.PUSH),
        ("POST", "/v1/signals", Right.PUSH),
        ("POST", "/v1/litellm", Right.PUSH),
        ("POST", "/v1/metrics", Right.PUSH),
        ("POST", "/v1/traces", Right.PUSH),
        ("POST", "/api/v1/write", Right.PUSH),
        ("GET", "/metrics", Right.READ),
        ("HEAD", "/metrics", Right.READ),
        ("GET", "/v1/providers", Right.READ),
        ("GET", "/v1/providers/openai", Right.READ),
        ("GET", "/v1/providers/openai/explain", Right.READ),
        ("GET", "/v1/exhausted", Right.READ),
        ("GET", "/", Right.READ),
        ("GET", "/openapi.json", Right.READ),
        ("PUT", "/v1/providers/openai/state", Right.OPERATE),
        ("POST", "/-/reload", Right.OPERATE),
        ("PUT", "/-/reload", Right.OPERATE),
        ("DELETE", "/v1/whatever-comes-next", Right.OPERATE),
        ("GET", "/v1/whatever-comes-next", Right.READ),
        ("POST", "/v1/usage/", Right.OPERATE),
        ("GET", "/v1/authorize", Right.READ),
        ("DELETE", "/v1/authorize", Right.READ),
        ("POST", "/v1/authorize/v1/chat/completions", Right.READ),
        ("POST", "/v1/authorized", Right.OPERATE),
        ("GET", "/-/healthy", None),
        ("GET", "/-/ready", None),
    ],
)
def test_each_route_needs_its_right(method: str, path: str, right: Right | None) -> None:
    assert right_for(method, path) is right


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (bearer(PUSHER), "token app"),
        (b"bearer  " + OPERATOR, "token ops"),
        (basic("ada", PASSWORD), "user ada"),
        (basic("app", PASSWORD), "user app"),
        (b"Basic !", ""),
    ],
)
def test_a_client_has_the_name_of_its_token_or_user(header: bytes, name: str) -> None:
    assert Authoriser(TOKENS, {"ada": hashed(PASSWORD)}).name(header) == name


def test_without_tokens_and_users_everything_is_open() -> None:
    authoriser = Authoriser()
    assert not authoriser.required
    assert authoriser.allowed(None, Right.OPERATE) is Decision.GRANTED
    assert authoriser.allowed(b"Bearer anything", Right.OPERATE) is Decision.GRANTED


def test_health_stays_open_when_everything_else_is_closed() -> None:
    assert Authoriser(TOKENS).allowed(None, None) is Decision.GRANTED


@pytest.mark.parametrize("right", list(Right))
def test_a_token_has_its_rights_and_no_others(right: Right) -> None:
    authoriser = Authoriser(TOKENS)
    expected = Decision.GRANTED if right is Right.PUSH else Decision.FORBIDDEN
    first_and_remembered = [authoriser.allowed(bearer(PUSHER), right) for _ in range(2)]
    assert first_and_remembered == [expected, expected]
    assert authoriser.allowed(bearer(OPERATOR), right) is Decision.GRANTED


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer pusher-secre",
        b"Bearer pusher-secret2",
        b"Bearer PUSHER-SECRET",
        b"Bearer pusher-secret operator-secret",
        b"pusher-secret",
        b"Token pusher-secret",
        b"Basic pusher-secret",
        b"Bearer \xff\x00",
    ],
)
def test_anything_but_a_known_token_is_unauthenticated(header: bytes | None) -> None:
    assert Authoriser(TOKENS).allowed(header, Right.PUSH) is Decision.UNAUTHENTICATED


@pytest.mark.parametrize(
    "header", [b"bearer pusher-secret", b"BEARER   pusher-secret", b" Bearer pusher-secret "]
)
def test_the_scheme_is_read_as_http_writes_it(header: bytes) -> None:
    assert Authoriser(TOKENS).allowed(header, Right.PUSH) is Decision.GRANTED


@given(st.lists(st.sampled_from([PUSHER, OPERATOR, b"wrong", b"pusher"]), max_size=30))
def test_what_was_asked_before_never_changes_an_answer(secrets: list[bytes]) -> None:
    authoriser = Authoriser(TOKENS)
    for secret in secrets:
        expected = Decision.GRANTED if secret in (PUSHER, OPERATOR) else Decision.UNAUTHENTICATED
        assert authoriser.allowed(bearer(secret), Right.PUSH) is expected


def test_many_spellings_of_one_good_header_do_not_pile_up() -> None:
    authoriser = Authoriser(TOKENS)
    for spaces in range(1, 5000):
        header = b"Bearer" + b" " * spaces + PUSHER
        assert authoriser.allowed(header, Right.PUSH) is Decision.GRANTED
    # No answer shows how much is remembered.
    assert len(authoriser._remembered) <= 4096


@pytest.mark.parametrize(
    ("name", "password", "decision"),
    [
        ("ada", PASSWORD, Decision.GRANTED),
        ("ada", "wrong", Decision.UNAUTHENTICATED),
        ("ada", "", Decision.UNAUTHENTICATED),
        ("bob", PASSWORD, Decision.UNAUTHENTICATED),
        ("", PASSWORD, Decision.UNAUTHENTICATED),
        ("ada", PASSWORD + "x" * 100, Decision.UNAUTHENTICATED),
        ("ada", PASSWORD + "\0", Decision.UNAUTHENTICATED),
    ],
)
@pytest.mark.parametrize("right", list(Right))
def test_a_user_with_the_password_may_do_everything(
    name: str, password: str, decision: Decision, right: Right
) -> None:
    authoriser = Authoriser(users={"ada": hashed(PASSWORD)})
    assert decide(authoriser, basic(name, password), right) is decision


def test_users_and_passwords_may_be_any_unicode_and_contain_colons() -> None:
    authoriser = Authoriser(users={"żółw": hashed("pa:ss:wörd")})
    assert decide(authoriser, basic("żółw", "pa:ss:wörd")) is Decision.GRANTED


def test_only_the_first_72_bytes_of_a_password_count_as_in_every_bcrypt() -> None:
    authoriser = Authoriser(users={"ada": hashed("p" * 72)})
    assert decide(authoriser, basic("ada", "p" * 100)) is Decision.GRANTED
    assert decide(authoriser, basic("ada", "p" * 71)) is Decision.UNAUTHENTICATED


def test_a_hash_made_by_htpasswd_is_understood() -> None:
    made_by_htpasswd = hashed(PASSWORD).replace(b"$2b$", b"$2y$")
    assert decide(Authoriser(users={"ada": made_by_htpasswd}), basic("ada", PASSWORD)) is (
        Decision.GRANTED
    )


@pytest.mark.parametrize("header", [b"Basic", b"Basic %%%", b"Basic YWRh", b"Basic \xff"])
def test_a_malformed_basic_header_is_unauthenticated(header: bytes) -> None:
    authoriser = Authoriser(users={"ada": hashed(PASSWORD)})
    assert decide(authoriser, header) is Decision.UNAUTHENTICATED


def test_a_verified_password_is_not_hashed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    authoriser = Authoriser(users={"ada": hashed(PASSWORD)})
    assert decide(authoriser, basic("ada", PASSWORD)) is Decision.GRANTED
    monkeypatch.setattr(bcrypt, "checkpw", None)
    assert authoriser.allowed(basic("ada", PASSWORD), Right.OPERATE) is Decision.GRANTED


def test_a_wrong_password_is_never_remembered_as_good() -> None:
    authoriser = Authoriser(users={"ada": hashed(PASSWORD)})
    for _ in range(2):
        assert decide(authoriser, basic("ada", "wrong")) is Decision.UNAUTHENTICATED


@pytest.mark.parametrize("name", ["ada", "stranger"])
def test_an_unknown_user_costs_one_bcrypt_of_the_same_cost(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = []

    def checkpw(password: bytes, hashed: bytes) -> bool:
        costs.append(hashed.split(b"$")[2])
        return real(password, hashed)

    real = bcrypt.checkpw
    monkeypatch.setattr(bcrypt, "checkpw", checkpw)
    decide(Authoriser(users={"ada": hashed(PASSWORD)}), basic(name, "wrong"))
    assert costs == [b"04"]


def test_passwords_are_verified_one_at_a_time_and_off_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running: list[int] = []
    threads = set()
    overlap = threading.Semaphore(1)

    def checkpw(password: bytes, hashed: bytes) -> bool:
        assert overlap.acquire(blocking=False)
        threads.add(threading.current_thread())
        running.append(1)
        matches = real(password, hashed)
        overlap.release()
        return matches

    real = bcrypt.checkpw
    monkeypatch.setattr(bcrypt, "checkpw", checkpw)

    async def run() -> list[Decision]:
        authoriser = Authoriser(users={"ada": hashed(PASSWORD)})
        headers = [basic("ada", f"wrong {n}") for n in range(10)] + [basic("ada", PASSWORD)] * 10
        return await asyncio.gather(*(authoriser.verify(h, Right.READ) for h in headers))

    decisions = asyncio.run(run())
    assert decisions == [Decision.UNAUTHENTICATED] * 10 + [Decision.GRANTED] * 10
    assert len(running) == 11, "the ten equal headers need one bcrypt"
    assert threading.main_thread() not in threads


def test_a_flood_of_passwords_is_turned_away_instead_of_queued() -> None:
    async def run() -> list[Decision]:
        authoriser = Authoriser(TOKENS, {"ada": hashed(PASSWORD)})
        flood = [basic("ada", f"wrong {n}") for n in range(MAX_WAITING_PASSWORDS + 5)]
        verifying = asyncio.gather(*(authoriser.verify(h, Right.READ) for h in flood))
        await asyncio.sleep(0)
        assert authoriser.allowed(bearer(PUSHER), Right.PUSH) is Decision.GRANTED
        decisions = await verifying
        assert await authoriser.verify(basic("ada", PASSWORD), Right.READ) is Decision.GRANTED
        return decisions

    decisions = asyncio.run(run())
    assert decisions.count(Decision.OVERLOADED) == 5
    assert decisions.count(Decision.UNAUTHENTICATED) == MAX_WAITING_PASSWORDS


def test_either_a_token_or_a_password_is_enough() -> None:
    authoriser = Authoriser(TOKENS, {"ada": hashed(PASSWORD)})
    assert decide(authoriser, bearer(OPERATOR)) is Decision.GRANTED
    assert decide(authoriser, basic("ada", PASSWORD)) is Decision.GRANTED
    assert decide(authoriser, None) is Decision.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("tokens", "users", "challenges"),
    [
        ([], {}, ()),
        (TOKENS, {}, (b'Bearer realm="llm-quota-exporter"',)),
        ([], {"ada": hashed("x")}, (b'Basic realm="llm-quota-exporter"',)),
        (
            TOKENS,
            {"ada": hashed("x")},
            (b'Basic realm="llm-quota-exporter"', b'Bearer realm="llm-quota-exporter"'),
        ),
    ],
)
def test_challenges_name_what_would_be_accepted(
    tokens: list[Token],
    users: dict[str, bytes],
    challenges: tuple[bytes, ...],
) -> None:
    assert Authoriser(tokens, users).challenges == challenges


def test_no_secret_shows_in_the_representation() -> None:
    users = {"ada": hashed(PASSWORD)}
    authoriser = Authoriser(TOKENS, users)
    decide(authoriser, basic("ada", PASSWORD))
    shown = repr(authoriser) + repr(vars(authoriser))
    for secret in (PUSHER.decode(), OPERATOR.decode(), PASSWORD):
        assert secret not in shown


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        (b"$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG", True),
        (b"$2b$04$" + b"a" * 53, True),
        (b"$2b$03$" + b"a" * 53, False),
        (b"$2b$32$" + b"a" * 53, False),
        (b"$2b$10$" + b"a" * 52, False),
        (b"$5$rounds=5000$salt$hash", False),
        (b"plain text", False),
        (b"", False),
    ],
)
def test_a_bcrypt_hash_is_told_from_other_text(text: bytes, valid: bool) -> None:
    assert is_bcrypt_hash(text) is valid


@pytest.mark.parametrize(
    ("secret", "valid"),
    [(b"abc-._~+/9==", True), (b"", False), (b"a b", False), (b"a\nb", False), (b"\xff", False)],
)
def test_a_bearer_token_is_what_a_header_can_carry(secret: bytes, valid: bool) -> None:
    assert is_bearer_token(secret) is valid


@contextmanager
def serving(authoriser: Authoriser) -> Iterator[http.client.HTTPConnection]:
    """A server that decides as the exporter's does."""

    async def app(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        header = dict(scope["headers"]).get(b"authorization")
        right = right_for(scope["method"], scope["path"])
        decision = authoriser.allowed(header, right)
        if decision is Decision.UNVERIFIED:
            decision = await authoriser.verify(header, right)
        status = {Decision.GRANTED: 200, Decision.FORBIDDEN: 403, Decision.OVERLOADED: 429}
        challenges = authoriser.challenges if decision is Decision.UNAUTHENTICATED else ()
        await send(
            {
                "type": "http.response.start",
                "status": status.get(decision, 401),
                "headers": [(b"www-authenticate", challenge) for challenge in challenges],
            }
        )
        await send({"type": "http.response.body", "body": b""})

    config = uvicorn.Config(app, host="127.0.0.1", port=0, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server ended before it started to serve"
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        yield connection
    finally:
        connection.close()
        server.should_exit = True
        thread.join()


def test_a_real_server_answers_200_401_and_403() -> None:
    def status(method: str, path: str, header: bytes | None) -> int:
        headers = {} if header is None else {"Authorization": header.decode()}
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status

    with serving(Authoriser(TOKENS, {"ada": hashed(PASSWORD)})) as connection:
        assert status("GET", "/-/ready", None) == 200
        assert status("GET", "/metrics", None) == 401
        assert status("GET", "/metrics", bearer(PUSHER)) == 403
        assert status("POST", "/v1/usage", bearer(PUSHER)) == 200
        assert status("POST", "/-/reload", bearer(OPERATOR)) == 200
        assert status("GET", "/metrics", basic("ada", PASSWORD)) == 200
        assert status("GET", "/metrics", basic("ada", "wrong")) == 401
