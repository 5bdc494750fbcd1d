import calls
import otel
from opentelemetry.instrumentation.langchain import LangchainInstrumentor

LangchainInstrumentor().instrument()
from langchain_openai import ChatOpenAI

chat = ChatOpenAI(model="gpt-4o", api_key="sk-none", base_url=calls.URL + "/v1", max_retries=0)
chat.invoke("SECRET")
for _ in chat.stream("SECRET", stream_usage=True):
    pass
otel.done()
