import calls
import otel
from langfuse import Langfuse

Langfuse(public_key="pk", secret_key="sk", base_url=calls.URL, tracer_provider=otel.tracers)
from langfuse.openai import openai

calls.use_openai(openai)
otel.done()
