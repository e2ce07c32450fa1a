"""What apps under test talk to."""

import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn

from examples.chat_app.model_server import create_app


@pytest.fixture(scope="module")
def model() -> Iterator[str]:
    """Run the example's model server on a free port."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(), log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    listening.close()
