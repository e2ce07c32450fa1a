"""What runs inside an app beside its requests: events, the configuration file, the banner, the end of the process."""
