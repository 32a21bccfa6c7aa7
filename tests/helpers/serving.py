"""A server in a thread of the test's process, that ends when it is told to."""

import threading
from contextlib import contextmanager

POLL_S = 0.01
"""Between two looks whether it shall end. The library's own half a second is what each test with a server would wait for."""


@contextmanager
def serving(server):
    """Serve while the context lasts; yield the address, without a slash at its end."""
    thread = threading.Thread(target=server.serve_forever, args=(POLL_S,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
