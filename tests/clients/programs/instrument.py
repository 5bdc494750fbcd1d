import os

import anthropic
import calls
import openai

from exporter.client import Reporter, instrument

with Reporter(os.environ["EXPORTER_URL"]) as reporter:

    class Instrumented:
        OpenAI = staticmethod(lambda **given: instrument(openai.OpenAI(**given), reporter))
        Anthropic = staticmethod(lambda **given: instrument(anthropic.Anthropic(**given), reporter))

    calls.use_openai(Instrumented)
    calls.use_anthropic(Instrumented)
