"""A server of org.keyns.Manager, made from its description, for keyctl-ns to call."""

import sys

import varlink

service = varlink.Service(vendor="test", product="not keynsd", version="1", interface_dir=sys.argv[2])


class Handler(varlink.RequestHandler):
    pass


Handler.service = service


@service.interface("org.keyns.Manager")
class Manager:
    def GetFeatures(self):
        row = {"name": "from-python", "enforcer": "advisory", "detail": "Said by “Python”."}
        return {"features": [row]}

    def GetStatus(self):
        raise varlink.VarlinkError({"error": "org.keyns.Manager.NotPermitted",
                                    "parameters": {"message": "not today", "rights": []}})


with varlink.ThreadingServer("unix:" + sys.argv[1], Handler) as server:
    print("listening", flush=True)
    server.serve_forever()
