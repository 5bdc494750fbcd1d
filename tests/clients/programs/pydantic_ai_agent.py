import calls
import otel
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

Agent.instrument_all()
provider = OpenAIProvider(base_url=calls.URL + "/v1", api_key="sk-none")
Agent(OpenAIChatModel("gpt-4o", provider=provider)).run_sync("SECRET")
otel.done()
