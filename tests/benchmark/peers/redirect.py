"""Becomes `sitecustomize.py` of the environments, since two of the tools cannot be told where Salesforce is.

Whatever connects to login.salesforce.com comes to the simulator, whose certificate has that name too.
"""

import os
import socket

_look_up = socket.getaddrinfo


def _redirect(host, port, *arguments, **more):
    if host == "login.salesforce.com" and port == 443 and "SIMULATOR_PORT" in os.environ:
        host, port = "127.0.0.1", int(os.environ["SIMULATOR_PORT"])
    return _look_up(host, port, *arguments, **more)


socket.getaddrinfo = _redirect
