"""What every other folder uses: names, shapes, errors, metrics, and the values of OTLP. Imports nothing of ours."""
