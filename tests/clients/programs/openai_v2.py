import calls
import otel
from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor

OpenAIInstrumentor().instrument()
import openai

calls.use_openai(openai)
otel.done()
