import calls
import otel
from openinference.instrumentation.anthropic import AnthropicInstrumentor
from openinference.instrumentation.openai import OpenAIInstrumentor

OpenAIInstrumentor().instrument(tracer_provider=otel.tracers)
AnthropicInstrumentor().instrument(tracer_provider=otel.tracers)
import anthropic
import openai

calls.use_openai(openai)
calls.use_anthropic(anthropic)
otel.done()
