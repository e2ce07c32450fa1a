"""Parts of the processors for the OpenTelemetry SDK, and what makes sure that they are reached."""
