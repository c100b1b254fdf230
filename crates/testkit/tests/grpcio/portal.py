"""A portal on grpcio with its default settings. Messages are raw bytes: nothing is generated."""

import sys
import time
from concurrent import futures

import grpc

CA, CERT, KEY, ADDRESS = sys.argv[1:]
SUCCESS = b"\x08\x01"


def text(number, value):
    return bytes([number << 3 | 2, len(value)]) + value.encode()


def username(request):
    """Returns field 1, which the agent writes first."""
    assert request[0] == 1 << 3 | 2
    return request[2 : 2 + request[1]].decode()


def check_policy(request, context):
    """Answers by the user's name: a status of that name, an exception, a deny, or an allow."""
    user = username(request)
    print("check", user, context.peer(), flush=True)
    code = getattr(grpc.StatusCode, user.upper(), None)
    if code is not None:
        context.abort(code, "no")
    if user == "exception":
        raise ValueError("a bug that one user triggers")
    if user == "mallory":
        return text(2, "the account is suspended")
    return SUCCESS


def acknowledge(request, context):
    return SUCCESS


def read(path):
    with open(path, "rb") as file:
        return file.read()


server = grpc.server(futures.ThreadPoolExecutor(4))
services = {
    "vpn.v1.AuthService": {"CheckPolicy": check_policy},
    "vpn.v1.EventService": {"ReportConnect": acknowledge, "ReportDisconnect": acknowledge},
}
for service, methods in services.items():
    handlers = {name: grpc.unary_unary_rpc_method_handler(call) for name, call in methods.items()}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
credentials = grpc.ssl_server_credentials(
    [(read(KEY), read(CERT))], root_certificates=read(CA), require_client_auth=True
)
assert server.add_secure_port(ADDRESS, credentials) != 0
server.start()
print("ready", flush=True)
time.sleep(3600)
