"""A client and an agent on the bus in Python: makes a container, answers one request for a key.

Prints what it does, one word a line, and ends after the request.
"""

import sys

from jeepney import DBusAddress, HeaderFields, MessageType, new_error, new_method_call, new_method_return
from jeepney.io.blocking import open_dbus_connection

MANAGER = DBusAddress("/org/keyns", bus_name="org.keyns", interface="org.keyns.Manager1")


def call(connection, address, method, signature=None, body=()):
    reply = connection.send_and_get_reply(new_method_call(address, method, signature, body))
    if reply.header.message_type is not MessageType.method_return:
        sys.exit(f"{method}: {reply.header.fields.get(HeaderFields.error_name)}: {reply.body}")
    return reply.body


def main(address):
    connection = open_dbus_connection(address)
    options = {"namespaces": ("as", ["user", "pid"])}
    (path,) = call(connection, MANAGER, "CreateContainer", "sa{sv}", ("python", options))
    container = DBusAddress(path, bus_name="org.keyns", interface="org.keyns.Container1")
    call(connection, container, "Intercept", "sa{sv}", ("user", {"agent": ("s", "python")}))
    agent = ("/agent", "python", ["user"], {"max_in_flight": ("u", 2)})
    call(connection, MANAGER, "RegisterAgent", "osasa{sv}", agent)
    call(connection, MANAGER, "Subscribe")
    print("registered", flush=True)
    while True:
        message = connection.receive()
        if message.header.message_type is not MessageType.method_call:
            continue
        member = message.header.fields.get(HeaderFields.member)
        if member == "Ping":
            connection.send(new_method_return(message))
        elif member == "Instantiate":
            _, request = message.body
            asked = request["description"][1]
            connection.send(new_method_return(message, "ay", (f"python says {asked}".encode(),)))
            print("answered", flush=True)
            return
        else:
            connection.send(new_error(message, "org.freedesktop.DBus.Error.UnknownMethod"))


main(sys.argv[1])
