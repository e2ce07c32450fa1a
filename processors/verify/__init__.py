"""The proof: canaries planted in every place that telemetry has, and the reasons of each finding."""
