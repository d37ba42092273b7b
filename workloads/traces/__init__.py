"""Reads traces (CSV, Jaeger, OpenTelemetry) and leaves out what cannot be trusted."""
