"""An agent in a process of its own, since an instrumentation changes the openai package for good.

python instrumented_agent.py WHICH SERVER_URL TOKEN ROLLOUT_ID ATTEMPT_ID MESSAGES TOOL
"""

import json
import os
import sys

import openai
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

which, url, token, rollout_id, attempt_id, messages, tool = sys.argv[1:]
os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "span_only"
if which == "openinference":
    from openinference.instrumentation.openai import OpenAIInstrumentor
elif which == "openllmetry":
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor
else:
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

where = {"agentlightning.rollout_id": rollout_id, "agentlightning.attempt_id": attempt_id}
provider = TracerProvider(resource=Resource.create(where))
exporter = OTLPSpanExporter(endpoint=f"{url}/v1/traces", headers={"Authorization": f"Bearer {token}"})
provider.add_span_processor(SimpleSpanProcessor(exporter))
OpenAIInstrumentor().instrument(tracer_provider=provider, skip_dep_check=True)

client = openai.OpenAI(base_url=f"{url}/rollout/{rollout_id}/attempt/{attempt_id}/v1", api_key=token)
said = json.loads(messages)
for _ in range(2):
    reply = client.chat.completions.create(model="tiny", messages=said, tools=[json.loads(tool)], temperature=0.5)
    said.append(reply.choices[0].message.model_dump(exclude_none=True))
    said.append({"role": "tool", "tool_call_id": "call_1", "content": "4"})
provider.shutdown()
