import os

import calls
import openlit

openlit.init(otlp_endpoint=os.environ["EXPORTER_URL"])
import anthropic
import openai

calls.use_openai(openai)
calls.use_anthropic(anthropic)
from opentelemetry import metrics, trace

metrics.get_meter_provider().shutdown()
trace.get_tracer_provider().shutdown()
