"OpenTelemetry's protocol: spans of any instrumentation in, the spans of a rollout out."
