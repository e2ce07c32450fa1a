"""The demo: a gateway, a model server and the chat app for real, dozens of requests, and every promise checked."""
