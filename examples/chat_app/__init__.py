"""A chat app, the model server it calls, and the demo that runs both behind a gateway (`make demo`)."""
