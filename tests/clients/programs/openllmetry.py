import calls
import otel
from opentelemetry.instrumentation.anthropic import AnthropicInstrumentor
from opentelemetry.instrumentation.openai import OpenAIInstrumentor

OpenAIInstrumentor().instrument()
AnthropicInstrumentor().instrument()
import anthropic
import openai

calls.use_openai(openai)
calls.use_anthropic(anthropic)
otel.done()
