"""A client of keynsd that knows nothing of it but its address: every call is made from what the daemon
says of itself. Prints what it gets."""

import sys

import varlink

with varlink.Client.new_with_address("unix:" + sys.argv[1]) as client:
    with client.open("org.varlink.service") as service:
        interfaces = service.GetInfo()["interfaces"]
    methods = 0
    for name in interfaces:
        if name.startswith("org.keyns."):
            with client.open(name):
                members = client.get_interface(name).members.values()
                methods += sum(isinstance(m, varlink.scanner._Method) for m in members)
    print("methods", methods)
    with client.open("org.keyns.Manager") as manager:
        print("instance", manager.GetStatus()["instance"])
    with client.open("org.keyns.Containers") as containers:
        events = client.open("org.keyns.Containers").Subscribe(_more=True)
        print("event", next(events)["event"])
        created = containers.Create(name="python", namespaces=["user", "pid"])
        print("created", created["container"]["name"])
        print("event", next(events)["event"])
        try:
            containers.Create(name="python", namespaces=[])
        except varlink.VarlinkError as error:
            print("error", error.error(), "|", error.parameters()["message"])
        try:
            # Python finds it by the description, and does not send it.
            containers.Show(container=1)
        except varlink.InvalidParameter as error:
            print("invalid", error.parameters()["parameter"])
        print("listed", *[c["name"] for c in containers.List()["containers"]])
