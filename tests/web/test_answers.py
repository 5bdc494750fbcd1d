"""What is answered to routers rests on what is known: nothing is measured because somebody asks."""

from typing import Any

import httpx
import pytest

from exporter.workers import Kind
from tests.web.test_routes import DAY, HOUR, House, lived

QUESTIONS = [
    "/v1/exhausted",
    "/v1/exhausted?include_elapsed=true",
    "/v1/availability",
    "/v1/availability?provider=openai&model=gpt",
    "/v1/providers/openai",
    "/v1/providers",
]


async def ask(house: House, path: str = "/v1/providers/openai") -> httpx.Response:
    answer = await house.http.get(path)
    assert answer.status_code == 200, answer.text
    return answer


def forbid_measuring(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    run = house.service.workers.run

    async def guarded(kind: Kind, *work: Any, **more: Any) -> Any:
        assert kind is not Kind.MEASURE, "measured because somebody asked"
        return await run(kind, *work, **more)

    monkeypatch.setattr(house.service.workers, "run", guarded)


@pytest.mark.parametrize("path", QUESTIONS)
def test_a_question_measures_nothing(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(house: House) -> None:
        await house.push({"provider": "openai", "tokens": 5})
        forbid_measuring(house, monkeypatch)
        await ask(house, path)
        house.clock.now += HOUR
        await ask(house, path)

    lived(story)


def test_what_is_used_shows_at_once_and_stays_when_it_is_measured() -> None:
    async def story(house: House) -> None:
        async def used() -> float:
            period = (await ask(house)).json()["periods"]["day"]
            assert period["projected_tokens_upper"] >= period["used_tokens"]
            found: float = period["used_tokens"]
            return found

        assert await used() == 0
        for number in range(1, 4):
            await house.push({"provider": "openai", "model": f"m{number % 2}", "tokens": 100})
            assert await used() == 100 * number
        yesterday = {"provider": "openai", "tokens": 50, "timestamp": house.clock.now - DAY}
        await house.push(yesterday)
        assert await used() == 300
        await house.service.refresh(house.clock())
        assert await used() == 300
        await house.push({"provider": "openai", "tokens": 100})
        assert await used() == 400

    lived(story)


def test_a_spent_budget_is_told_in_the_next_answer_of_every_kind() -> None:
    async def story(house: House) -> None:
        await house.push({"provider": "openai", "tokens": 1000})
        assert (await ask(house)).json()["reason"] == "budget"
        assert (await ask(house, "/v1/providers")).json()["openai"]["reason"] == "budget"
        assert (await ask(house, "/v1/exhausted")).json().keys() == {"openai"}
        assert len((await ask(house, "/v1/availability")).json()["scopes"]) == 1
        asked = "/v1/availability?provider=openai&model=gpt"
        assert (await ask(house, asked)).json()["reason"] == "budget"
        house.clock.now += 12 * HOUR  # the day is over: nobody has looked since
        assert (await ask(house)).json()["state"] == "available"
        assert (await ask(house, "/v1/exhausted")).json() == {}
        assert (await ask(house, "/v1/availability")).json() == {"scopes": []}
        assert (await ask(house, asked)).json()["state"] == "available"

    lived(story)


def test_an_answer_keeps_its_tag_until_something_changes() -> None:
    async def story(house: House) -> None:
        await house.push({"provider": "openai", "tokens": 100})
        for path in QUESTIONS:
            await house.service.refresh(house.clock())
            before = (await ask(house, path)).headers["etag"]
            await house.service.refresh(house.clock())
            assert (await ask(house, path)).headers["etag"] == before
            known = await house.http.get(path, headers={"if-none-match": before})
            assert (known.status_code, known.content) == (304, b"")
        await house.push({"provider": "openai", "tokens": 1000})
        for path in QUESTIONS[2:]:
            again = await house.http.get(path, headers={"if-none-match": before})
            assert again.status_code == 200

    lived(story)
